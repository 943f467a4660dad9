"""Scanning session files in chunks: bounded, continued after a death, decided again after a conflict, counted once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.errors import ConflictError
from lerim_jobs.log.events import SessionIndexed, SessionRetried
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.store import Store
from lerim_jobs.sessions import discovery
from lerim_jobs.sessions.chunk import Chunk, Limits
from lerim_jobs.sessions.claude_code import ClaudeReader
from lerim_jobs.sessions.scan import Scan
from lerim_jobs.sessions.session import SESSIONS, Session
from lerim_jobs.sessions.stored import stored_turns
from lerim_jobs.sessions.tally import Tally
from tests.memory_store import MemoryStore
from tests.transcripts import claude_lines

NOW_MS = 10_000_000_000_000
SMALL = Limits(files=4, kept_bytes=3000, read_bytes=1 << 20)


class Died(BaseException):
    """What a SIGKILL is to the code: nothing after it runs."""


class Machine:
    """Session files of one agent, a log, and scans of them."""

    def __init__(self, place: Path, agent: str = "claude_code") -> None:
        self.folder, self.agent = place / "sessions", agent
        self.folder.mkdir()
        self.store = MemoryStore()
        self.chunks: list[Chunk] = []

    def write(self, name: str, *lines: str) -> Path:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path

    def says(self, name: str, *texts: str) -> Path:
        return self.write(name, *claude_lines(name, "/srv/shop", texts))

    def commit(self, chunk: Chunk) -> None:
        with self.store.write() as tx:
            for blob in chunk.blobs:
                tx.put_blob(blob)
            for append in chunk.appends:
                tx.append(append.stream, append.events, expected=append.expected)
        self.chunks.append(chunk)

    def scan(
        self, limits: Limits = SMALL, *, commit: Callable[[Chunk], None] | None = None, store: Store | None = None
    ) -> dict[str, Any]:
        """One whole scan, as an attempt of a job in which nobody else has indexed anything."""
        tally = Tally()
        for event in self.indexed():
            tally.add(event)
        scan = Scan(store or self.store, tally, commit or self.commit, host="h", now_ms=NOW_MS, limits=limits)
        found, unread = discovery.scan({self.agent: [self.folder]})
        assert not unread
        scan.run(sorted(found, key=lambda file: file.path))
        return tally.counts()

    def indexed(self) -> list[SessionIndexed]:
        return [row.as_(SessionIndexed) for row in self.store.read_all(0, 100_000, ("SessionIndexed",))]

    def sessions(self) -> dict[str, Session]:
        return fold_all(self.store, SESSIONS)

    def said(self) -> list[list[str]]:
        """The kept texts of each session, checked to be numbered without gaps."""
        texts = []
        for session in self.sessions().values():
            turns = stored_turns(self.store, session)
            assert [turn.n for turn in turns] == list(range(session.turns))
            texts.append([turn.text for turn in turns])
        return texts


def indexed_of(chunk: Chunk) -> list[SessionIndexed]:
    return [event for append in chunk.appends for event in append.events if isinstance(event, SessionIndexed)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_chunk_holds_more_files_or_words_than_it_may(machine: Machine) -> None:
    for n in range(18):
        machine.says(f"few-{n:02d}", f"Sentence {n}.")
    for n in range(6):
        machine.says(f"many-{n:02d}", *(f"{part} {'word ' * 60}" for part in range(4)))
    counts = machine.scan(Limits(files=4, kept_bytes=5000, read_bytes=1 << 20))
    files = [sum(len(append.events) for append in chunk.appends) for chunk in machine.chunks]
    assert (files[:4], sum(files), max(files)) == ([4, 4, 4, 4], 24, 4)
    assert min(files[4:-1]) < 4
    assert max(sum(map(len, chunk.blobs)) for chunk in machine.chunks) < 2 * 5000
    assert (counts["found"], counts["indexed"], counts["skipped"]) == (24, 24, 0)


def test_a_huge_file_is_read_to_its_end_by_one_scan(machine: Machine) -> None:
    says = [f"Sentence {n}. {'word ' * 40}".strip() for n in range(60)]
    machine.says("huge", *says)
    machine.says("small", "Something else.")
    counts = machine.scan()
    assert len(machine.chunks) > 3
    assert max(len(blob) for chunk in machine.chunks for blob in chunk.blobs) < 2 * SMALL.kept_bytes
    (huge, small) = sorted(machine.said(), key=len, reverse=True)
    assert [text for text in huge if text.startswith("Sentence")] == says
    assert small[0] == "Something else."
    assert (counts["found"], counts["indexed"], counts["turns"]) == (2, 2, len(huge) + len(small))
    before = len(machine.chunks)
    assert machine.scan() == counts
    assert len(machine.chunks) == before


def test_files_of_little_worth_are_read_in_parts_by_their_bytes(machine: Machine) -> None:
    noise = json.dumps({"type": "progress", "data": "x" * 2000})
    lines = claude_lines("s", "/srv/shop", ["First.", "Last."])
    machine.write("s", *lines[:2], *([noise] * 50), *lines[2:], *([noise] * 30))
    counts = machine.scan(Limits(files=100, kept_bytes=1 << 20, read_bytes=20_000))
    assert len(machine.chunks) > 4
    assert (counts["indexed"], counts["found"], counts["skipped_reasons"]) == (1, 1, {})
    assert [text for text in machine.said()[0] if text in ("First.", "Last.")] == ["First.", "Last."]


@pytest.mark.parametrize("lived", [0, 1, 3])
def test_b3_a_scan_that_died_is_continued_behind_its_last_chunk_and_counts_once(tmp_path: Path, lived: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, killed = Machine(tmp_path / "whole"), Machine(tmp_path / "killed")
    for machine in (whole, killed):
        for n in range(9):
            machine.says(f"s-{n}", f"Sentence {n}.")
        machine.says("s-3x", *(f"Long {part} {'word ' * 40}" for part in range(40)))
        machine.write("s-nothing", "")

    def die(chunk: Chunk) -> None:
        if len(killed.chunks) == lived:
            raise Died
        killed.commit(chunk)

    with pytest.raises(Died):
        killed.scan(commit=die)
    before = len(killed.indexed())
    assert killed.scan() == whole.scan()
    assert killed.said() == whole.said()
    kept = [(event.path.rpartition("/")[2], event.offset) for event in killed.indexed()]
    assert len(kept) == len(set(kept)) == len(whole.indexed())
    assert before == sum(len(append.events) for chunk in killed.chunks[:lived] for append in chunk.appends)


def test_a_conflict_costs_one_chunk_and_the_others_are_not_decided_again(machine: Machine) -> None:
    for n in range(12):
        machine.says(f"s-{n:02d}", f"Sentence {n}.")
    machine.scan()
    for n in range(12):
        machine.says(f"s-{n:02d}", f"Sentence {n}.", f"More {n}.")
    decided: list[list[str]] = []
    machine.chunks.clear()

    def commit(chunk: Chunk) -> None:
        decided.append(sorted(event.path[-8:-6] for event in indexed_of(chunk)))
        if len(decided) == 2:
            machine.store.append(chunk.appends[0].stream, [SessionRetried(0, 0)])
        machine.commit(chunk)

    machine.scan(commit=commit)
    assert decided == [["00", "01", "02", "03"], *[["04", "05", "06", "07"]] * 2, ["08", "09", "10", "11"]]
    assert sorted(said[2] for said in machine.said()) == sorted(f"More {n}." for n in range(12))
    assert {len(said) for said in machine.said()} == {4}


def test_two_scans_at_once_keep_every_turn_once(machine: Machine) -> None:
    for n in range(10):
        machine.says(f"s-{n}", f"Sentence {n}.")
    machine.says("long", *(f"Long {part} {'word ' * 40}" for part in range(40)))
    other: list[dict[str, Any]] = []

    def commit(chunk: Chunk) -> None:
        if not other:
            other.append({})
            other[0] = machine.scan()
        machine.commit(chunk)

    counts = machine.scan(commit=commit)
    assert other[0]["indexed"] == 11
    assert (counts["found"], counts["indexed"] + counts["unchanged"]) == (11, 11)
    paths = [(event.path, event.offset) for event in machine.indexed()]
    assert len(paths) == len(set(paths))
    assert sorted(len(said) for said in machine.said()) == [2] * 10 + [80]


def test_a_scan_gives_up_when_others_are_always_quicker(machine: Machine) -> None:
    machine.says("s", "Sentence.")
    tries: list[Chunk] = []

    def commit(chunk: Chunk) -> None:
        tries.append(chunk)
        raise ConflictError("the log moved")

    with pytest.raises(ConflictError):
        machine.scan(commit=commit)
    assert 1 < len(tries) < 20


def codex_lines(session_id: str, texts: list[str]) -> list[str]:
    meta = {"type": "session_meta", "payload": {"id": session_id, "cwd": "/srv/shop"}}
    said = [{"type": "event_msg", "payload": {"type": "user_message", "message": text}} for text in texts]
    return [json.dumps(record) for record in (meta, *said)]


def claude_copy(session_id: str, texts: list[str]) -> list[str]:
    """Records keep their uuid when they are copied into another session."""
    return [line.replace('"sessionId": "first"', f'"sessionId": "{session_id}"') for line in claude_first(texts)]


def claude_first(texts: list[str]) -> list[str]:
    return claude_lines("first", "/srv/shop", texts)


@pytest.mark.parametrize(("agent", "lines"), [("claude_code", claude_copy), ("codex", codex_lines)])
@pytest.mark.parametrize("dies", [False, True])
def test_a_copy_that_is_longer_than_a_part_adds_only_what_is_new(
    tmp_path: Path, agent: str, lines: Callable[[str, list[str]], list[str]], dies: bool
) -> None:
    machine = Machine(tmp_path, agent)
    texts = [f"Sentence {n}. {'word ' * 40}".strip() for n in range(60)]
    machine.write("first", *lines("first", texts))
    machine.scan()
    noise = [json.dumps({"type": "progress", "payload": {"type": "nothing", "data": "x" * 2000}})] * 30
    machine.write("second", *noise, *lines("second", [*texts, "And this is new."]))
    machine.chunks.clear()

    def commit(chunk: Chunk) -> None:
        machine.commit(chunk)
        if dies and len(machine.chunks) == 2:
            raise Died

    small = Limits(files=1, kept_bytes=3000, read_bytes=20_000)
    if dies:
        with pytest.raises(Died):
            machine.scan(small, commit=commit)
    machine.scan(small)
    assert len(machine.chunks) > 3
    said = [text for session in machine.said() for text in session if not text.startswith("Understood")]
    assert sorted(said) == sorted([*texts, "And this is new."])


def test_a_large_new_file_is_compared_with_nothing(machine: Machine) -> None:
    class Counting(MemoryStore):
        """Counts how often a stored segment is read."""

        reads = 0

        def blob(self, blob_hash: str) -> bytes:
            self.reads += 1
            return super().blob(blob_hash)

    machine.store = counting = Counting()
    machine.says("huge", *(f"Sentence {n}. {'word ' * 40}" for n in range(60)))
    machine.scan()
    assert len(machine.chunks) > 3
    assert counting.reads == 0


def test_files_of_one_session_and_its_copy_fit_together_also_within_one_chunk(machine: Machine) -> None:
    lines = claude_first(["One.", "Two.", "Three."])
    machine.write("a", *lines[:2])
    machine.write("b", *lines[2:4])
    machine.write("c", *claude_copy("copied", ["One.", "Two.", "Three."]))
    machine.scan(Limits(files=10))
    assert len(machine.chunks) == 1
    texts = [[text for text in session if not text.startswith("Understood")] for session in machine.said()]
    assert sorted(texts) == [["One.", "Two."], ["Three."]]


def test_a_title_that_was_redacted_stays_out_when_the_agent_writes_it_again(machine: Machine) -> None:
    title = json.dumps({"type": "custom-title", "customTitle": "On the secret thing", "sessionId": "s"})
    lines = claude_lines("s", "/srv/shop", ["First.", "Second.", "Third."])
    machine.write("s", *lines[:2], title)
    machine.scan()
    (session,) = machine.sessions().values()
    machine.store.append(session.stream, [_titled(machine.indexed()[0], "On the [REDACTED]")])
    machine.write("s", *lines[:2], title, *lines[2:4], title)
    machine.scan()
    fork = [line.replace('"sessionId": "s"', '"sessionId": "fork"') for line in (*lines, title)]
    machine.write("t", *fork)
    machine.scan()
    assert {session.title for session in machine.sessions().values()} == {"On the [REDACTED]", None}


def _titled(event: SessionIndexed, title: str) -> SessionIndexed:
    return msgspec.structs.replace(event, title=title, blob=None, turn_from=0, turn_to=0)


def test_a_reader_that_fails_costs_its_file_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.says("bad", "BOOM")
    machine.says("good", "Fine.")
    decode = ClaudeReader.decode

    def failing(self: ClaudeReader, block: bytes) -> Any:
        if b"BOOM" in block:
            raise ZeroDivisionError
        return decode(self, block)

    monkeypatch.setattr(ClaudeReader, "decode", failing)
    counts = machine.scan()
    assert (counts["indexed"], counts["skipped_reasons"]) == (1, {"the reader failed: ZeroDivisionError": 1})
