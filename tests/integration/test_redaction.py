"""Redaction of a whole state folder: nothing of what was said is left in any byte, everything else still works."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.care.derived import VIEWS
from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import (
    JobFinished,
    JobRequested,
    MemoryAdded,
    MemoryRedacted,
    MemoryUpdated,
    ModelCalled,
    ProjectAdded,
    ProposalRejected,
    Quote,
    RedactionApplied,
    SessionIndexed,
    StageCompleted,
)
from lerim_jobs.log.projection import catch_up, find, rebuild
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.files.publishing import publish_now
from lerim_jobs.memory.search.asof import memories_at
from lerim_jobs.memory.search.index import SearchIndex
from lerim_jobs.memory.stored import all_memories
from lerim_jobs.paths import Home
from lerim_jobs.projects import PROJECTS
from lerim_jobs.redaction import redact, scrubbing
from lerim_jobs.redaction.redact import Redaction
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.transcript import Segment, Turn, find_quote
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.record import SpanEvent, SpanRecord

MARKER = "ZQX-77-MARKER"
SAID = f'We decided that the code of the "{MARKER}" vault\nis kept by naïve Ann'
OTHER = "We decided to use Postgres, and nobody minds."
TITLE = f"The code of the {MARKER} vault is kept by Ann"
STREAM = "session-codex-1"


@dataclass
class Machine:
    root: Path
    home: Home
    store: SqliteStore

    @property
    def memory(self) -> Path:
        return self.root / "shop" / ".lerim" / "memory"

    def publish(self, projects: Iterable[str] = ("p",)) -> None:
        for project in projects:
            publish_now(self.store, project)

    def hits(self, *words: str) -> list[str]:
        """Files in whose bytes one of the words stands, in any case; a session's own file is not ours."""
        found = []
        for path in sorted((*self.home.root.rglob("*"), *(self.root / "shop").rglob("*"))):
            text = f"{path}\n".encode() + (path.read_bytes() if path.is_file() else b"")
            found += [f"{path}: {word}" for word in words if word.lower().encode() in text.lower()]
        return found

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.memory)) for path in self.memory.rglob("*.md"))


def requested(params: dict[str, Any]) -> JobRequested:
    return JobRequested("ask", params, "all", "cli", "h", "t" * 32, "r" * 16, 1)


def span(name: str, text: str) -> SpanRecord:
    call = json.dumps([{"parts": [{"type": "tool_call", "arguments": json.dumps({"title": text})}]}], ensure_ascii=True)
    event = SpanEvent("gen_ai.choice", 2, {"message": text})
    return SpanRecord("t" * 32, name, None, f"ask {text}", "internal", 1, 2, "ok", text, {"in": call}, [event])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A log in which the marker stands in every place where words are kept."""
    monkeypatch.setattr(redact, "_FLUSH_MS", 0)
    home = Home(tmp_path / "h").ensure()
    store = SqliteStore(home.log)
    (tmp_path / "shop").mkdir()
    store.append("project-p", [ProjectAdded("p", "shop", str(tmp_path / "shop"), "h")])
    said = [
        Turn(0, "user", f"Hello. {SAID}.", "k0", 5),
        Turn(1, "user", OTHER, "k1"),
        Turn(2, "tool", "well: yes, so it is", "k2"),
    ]
    segment = transcript.encode(Segment("codex", "s1", said))
    indexed = SessionIndexed(
        "codex", "s1", "/s.jsonl", "h", 9, 1, 1, 1, "th", 0, 3, store.put_blob(segment), title=SAID
    )
    store.append(STREAM, [indexed])
    request_job(store, "j", requested({"question": f"Who keeps {SAID}?", "project_id": "p"}))
    candidates = [{"kind": "decision", "title": TITLE, "body": SAID, "quote": SAID, "turn": 0}] * 3
    answer = json.dumps({"parts": [{"part_kind": "tool-call", "args": json.dumps({"title": TITLE, "quote": SAID})}]})
    call = ModelCalled(
        "extract:1:0", 1, "extract", "rh", 0, store.put_blob(answer.encode()), "m", "m", "openai", 1, 1, 1
    )
    output = StageCompleted(
        "extract:1:0", 1, output_blob=store.put_blob(msgspec.json.encode({"candidates": candidates}))
    )
    rejected = ProposalRejected("integrate:1", "add", TITLE, f"it says the same as {TITLE}")
    store.append("job-j", [call, output, rejected, StageCompleted("answer", 1, {"answer": f"Ann: {SAID}"})])
    store.append("job-k", [requested({"question": "other"}), JobFinished("succeeded", {"answer": SAID}, SAID)])
    with store.write() as tx:
        tx.put_doc("_journal:j", "extract:1:0/rh/0", call.answer_blob.encode())
    quote = Quote(SAID, "s1", STREAM, "codex", 0, "user", 5)
    mine = MemoryAdded(
        "aaaaaaaa1", "p", "decision", TITLE, f"{SAID}. Ask her.", 0.9, ["vault"], [quote], "s1", reason=SAID
    )
    yes = Quote("yes, so", "s1", STREAM, "codex", 2, "tool")
    theirs = MemoryAdded("bbbbbbbb2", "p", "decision", "Postgres it is", OTHER, 0.9, [], [quote, yes], "s1", reason="x")
    store.append("memory-aaaaaaaa1", [mine, MemoryUpdated("aaaaaaaa1", TITLE, f"{SAID}, really.", 0.9, [], [yes])])
    store.append("memory-bbbbbbbb2", [theirs])
    SpanStore(home.traces).put([span("1" * 16, SAID), span("2" * 16, "nothing")])
    (home.logs / "worker.log").write_text(f"debug: {json.dumps(SAID)}\nother\n")
    made = Machine(tmp_path, home, store)
    made.publish()
    for view in VIEWS:
        catch_up(store, view)
    index = SearchIndex(home.search, store)
    index.catch_up()
    index.close()
    assert len({hit.partition(":")[0] for hit in made.hits(MARKER)}) >= 5
    return made


def texts(machine: Machine) -> str:
    """All that the log says, as text."""
    store = machine.store
    events = [row.data.decode() for row in store.read_all()]
    blobs = [store.blob(name).decode() for row in store.read_all() if (name := getattr(row.event, "output_blob", None))]
    return "\n".join((*events, *blobs))


def turns(machine: Machine) -> list[Turn]:
    indexed = machine.store.read(STREAM)[0].as_(SessionIndexed)
    return transcript.decode(machine.store.blob(indexed.blob or "")).turns


def check_whole(machine: Machine) -> None:
    """Everything decodes, blobs are found, read models are what a rebuild makes of them."""
    store = machine.store
    for row in store.read_all():
        for name in ("blob", "answer_blob", "output_blob"):
            if blob := getattr(row.event, name, None):
                assert msgspec.json.decode(store.blob(blob))
    said = turns(machine)
    assert [(turn.n, turn.key, turn.speaker) for turn in said] == [
        (0, "k0", "user"),
        (1, "k1", "user"),
        (2, "k2", "tool"),
    ]
    for memory in all_memories(store).values():
        assert all(find_quote(said, quote.text) for quote in memory.quotes)
    answer_blob = next(row.event for row in store.read("job-j") if isinstance(row.event, ModelCalled)).answer_blob
    assert store.doc("_journal:j", "extract:1:0/rh/0") == answer_blob.encode()
    for view in VIEWS:
        catch_up(store, view)
        before = store.docs(view.name)
        assert not rebuild(store, view)
        assert store.docs(view.name) == before
        assert before


def test_a_pattern_is_gone_from_every_byte_and_the_rest_stays(machine: Machine) -> None:
    redaction = Redaction.of_pattern(machine.store, machine.home, r"ZQX-\d+-[A-Z]+")
    counted = redaction.count()
    assert (counted.events, counted.blobs) == (9, 3)
    done = redaction.apply(machine.publish)
    assert machine.hits("zqx", "77-marker") == []
    assert (done.left, done.kept, done.spans, done.events) == ([], 0, 1, 9)
    check_whole(machine)
    memory = all_memories(machine.store)["aaaaaaaa1"]
    assert (memory.status, memory.title) == ("active", "The code of the [REDACTED] vault is kept by Ann")
    assert 'the "[REDACTED]" vault' in memory.quotes[0].text
    assert OTHER in texts(machine)
    applied = machine.store.read("redactions")[-1].as_(RedactionApplied)
    assert (applied.events, applied.memory_id, len(applied.pattern_hash or "")) == (9, None, 64)
    name = next(one for one in machine.files() if "aaaaaaaa" in one)
    assert name.endswith("redacted-aaaaaaaa.md")
    assert "postgres-it-is-bbbbbbbb" in "".join(machine.files())
    publish_now(machine.store, "p")
    assert not any(publish_now(machine.store, "p").values())
    assert (machine.home.logs / "worker.log").read_text().endswith("other\n")


def test_a_memory_is_gone_with_all_it_ever_said_and_leaves_a_tombstone(machine: Machine) -> None:
    version = machine.store.position()
    done = Redaction.of_memory(machine.store, machine.home, "aaaaaaaa1").apply(machine.publish)
    assert machine.hits("zqx", "kept by na", "kept by Ann") == []
    assert (done.left, done.kept) == ([], 0)
    check_whole(machine)
    memories = all_memories(machine.store)
    assert (memories["aaaaaaaa1"].status, memories["aaaaaaaa1"].title) == ("redacted", "[REDACTED]")
    assert machine.store.read("memory-aaaaaaaa1")[-1].event == MemoryRedacted("aaaaaaaa1")
    assert [row.position for row in machine.store.read_all()][:version] == list(range(1, version + 1))
    assert [quote.text for quote in memories["bbbbbbbb2"].quotes] == ["[REDACTED]", "[REDACTED]"]
    assert memories["bbbbbbbb2"].body == OTHER
    assert turns(machine)[2].text == "well: [REDACTED] it is"
    assert [one for one in machine.files() if "aaaaaaaa" in one] == []
    assert memories_at(machine.store, 1 << 60).keys() == {"bbbbbbbb2"}
    with pytest.raises(BadInput, match="redacted before"):
        Redaction.of_memory(machine.store, machine.home, "aaaaaaaa1")


@pytest.mark.parametrize("of_memory", [True, False])
def test_a_word_in_an_event_that_cannot_be_read_is_gone_as_well(machine: Machine, of_memory: bool) -> None:
    lost = MemoryAdded("cccccccc3", "p", "decision", TITLE, f"{SAID}. Nobody can read this.", 0.9)
    machine.store.append("memory-cccccccc3", [lost])
    with machine.store.write() as tx:
        tx.execute("UPDATE events SET data = json_set(data, '$.kind', null) WHERE stream = 'memory-cccccccc3'")
    redaction = Redaction.of_pattern(machine.store, machine.home, MARKER)
    if of_memory:
        redaction = Redaction.of_memory(machine.store, machine.home, "aaaaaaaa1")
    assert redaction.apply(machine.publish).left == []
    assert machine.hits(MARKER) == []
    assert sorted(all_memories(machine.store)) == ["aaaaaaaa1", "bbbbbbbb2"]


def test_hand_edits_conflicts_and_foreign_files_are_cleaned_and_kept(machine: Machine) -> None:
    (name,) = [one for one in machine.files() if "aaaaaaaa" in one]
    edited = machine.memory / name
    edited.write_text(edited.read_text() + "\nMy own line below.\n")
    edited.with_suffix(".conflict.md").write_text(f"---\ntitle: {TITLE}\n---\n\n{SAID}\n")
    notes = machine.memory.parent / "notes.txt"
    notes.write_text(f"Remember {MARKER}.")
    (machine.home.root / ".env").write_text(f"KEY={MARKER}")
    outside = machine.root / "outside.txt"
    outside.write_text(MARKER)
    (machine.memory / "link.md").symlink_to(outside)
    done = Redaction.of_pattern(machine.store, machine.home, MARKER).apply(machine.publish)
    assert [Path(left.path).name for left in done.left] == [".env"]
    (machine.home.root / ".env").unlink()
    (machine.memory / "link.md").unlink()
    assert machine.hits(MARKER) == []
    assert outside.read_text() == MARKER
    assert notes.read_text() == "Remember [REDACTED]."
    mine = next(machine.memory.rglob("*redacted-aaaaaaaa.md"))
    assert "My own line below.\n" in mine.read_text()
    assert "My own line below." in all_memories(machine.store)["aaaaaaaa1"].body
    check_whole(machine)


def test_an_edit_nobody_has_read_yet_is_redacted_as_well(machine: Machine) -> None:
    (name,) = [one for one in machine.files() if "bbbbbbbb" in one]
    path = machine.memory / name
    path.write_text(path.read_text().replace(OTHER, f"{OTHER} See {MARKER}."))
    Redaction.of_pattern(machine.store, machine.home, MARKER).apply(machine.publish)
    assert machine.hits(MARKER) == []
    assert all_memories(machine.store)["bbbbbbbb2"].body == f"{OTHER} See [REDACTED]."
    assert "See [REDACTED]." in path.read_text()


def test_nothing_changes_while_a_stage_runs_nor_in_a_dry_run(machine: Machine) -> None:
    before = machine.store.read_all()
    Redaction.of_pattern(machine.store, machine.home, MARKER).count()
    assert machine.store.read_all() == before
    held = claims.claim(machine.store, "j", "answer", "someone", alive=lambda _: True, max_attempts=5)
    assert isinstance(held, claims.Claim)
    before = machine.store.read_all()
    with pytest.raises(ConflictError, match="answer of job j is running"):
        Redaction.of_pattern(machine.store, machine.home, MARKER).apply(lambda _: None)
    assert machine.store.read_all() == before
    assert outcomes.release(machine.store, held)
    Redaction.of_pattern(machine.store, machine.home, MARKER).apply(machine.publish)
    assert machine.hits(MARKER) == []


def test_an_event_that_could_not_be_read_any_more_stops_it_all(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine.store.read_all()
    monkeypatch.setattr(scrubbing, "_SHAPE", frozenset())
    with pytest.raises(BadInput, match="narrow it"):
        Redaction.of_pattern(machine.store, machine.home, "decision").apply(machine.publish)
    assert machine.store.read_all() == before


def test_a_pattern_that_matches_names_and_ids_leaves_them_and_says_so(machine: Machine) -> None:
    done = Redaction.of_pattern(machine.store, machine.home, "codex|decision|user|shop|s1").apply(machine.publish)
    assert done.kept > 0
    assert done.left
    check_whole(machine)
    project = find(machine.store, PROJECTS, "p")
    assert project is not None
    assert project.name == "shop"
