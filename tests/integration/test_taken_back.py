"""What the user takes back after it was synced: turns are withdrawn, and memories that nothing else proves archived."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lerim_jobs.audit.accounting import unaccounted
from lerim_jobs.audit.finding import Place
from lerim_jobs.config import Settings
from lerim_jobs.log.events import MemoryArchived, MemoryEdited, MemoryUpdated, SessionTurnsWithdrawn
from lerim_jobs.log.projection import fold_all
from lerim_jobs.memory.checks.evidence import unsupported
from lerim_jobs.memory.history.provenance import origins
from lerim_jobs.memory.withdrawal import REASON
from lerim_jobs.paths import memory_dir
from lerim_jobs.sessions.session import SESSIONS, Session
from lerim_jobs.sessions.stored import stored_turns
from tests.here import Here
from tests.model_server import ModelServer
from tests.session_lines import Claude, Codex, put

KEPT, GONE = "REMEMBER: carts live in Redis.", "REMEMBER: prices live in Memcached."


@pytest.fixture
def here(tmp_path: Path, server: ModelServer) -> Iterator[Here]:
    place = Here(tmp_path / "m", url=server.url)
    yield place
    place.close()


def session_of(here: Here) -> Session:
    (session,) = fold_all(here.store, SESSIONS).values()
    return session


def agrees(here: Here) -> None:
    """The audit has nothing to say."""
    assert unsupported(here.store)[1] == []
    zero = unaccounted(Place(here.home, here.store, Settings(), {}, "h", workers_run=False, grace_s=0.0))
    assert zero.breaches == []


def begun(here: Here, made: type[Claude] | type[Codex]) -> Claude | Codex:
    """A session of two prompts, synced."""
    file = made(cwd=str(here.project))
    for text in (KEPT, GONE):
        file.user(text) if isinstance(file, Claude) else file.prompt(text)
        file.says(f"Done: {text[10:]}")
    put(file, here.root)
    assert here.sync()["memories"]["added"] == 2
    return file


def take_back(file: Claude | Codex) -> None:
    """Go back behind the first answer."""
    if isinstance(file, Codex):
        file.add("event_msg", type="thread_rolled_back", num_turns=1)
        file.prompt("Let me think about prices.")
    else:
        file.at = json.loads(file.lines[1])["uuid"]
        file.user("Let me think about prices.")
    file.says("Fine.")


@pytest.mark.parametrize("made", [Claude, Codex])
def test_a_memory_goes_with_the_words_that_were_taken_back(here: Here, made: type[Claude] | type[Codex]) -> None:
    file = begun(here, made)
    take_back(file)
    put(file, here.root)
    here.sync()
    assert [one.title for one in here.memories()] == ["carts live in Redis"]
    (gone,) = here.memories("archived")
    (archived,) = [
        row.event for row in here.store.read(f"memory-{gone.memory_id}") if isinstance(row.event, MemoryArchived)
    ]
    assert archived.reason == REASON
    session = session_of(here)
    (first, end) = session.withdrawn[0]
    texts = [turn.text for turn in stored_turns(here.store, session)]
    assert GONE not in texts
    assert texts[-2:] == ["Let me think about prices.", "Fine."]
    assert (session.waiting, session.standing_turns) == (False, len(texts))
    (origin,) = origins(here.store, gone)
    assert origin.quote.turn in origin.taken_back == list(range(first, end))
    files = [path.name for path in memory_dir(here.project).rglob("*.md")]
    assert any("archived" in str(path) for path in memory_dir(here.project).rglob("*memcached*")), files
    agrees(here)
    assert here.sync()["sessions"]["unchanged"] == 1


def test_taken_back_before_it_was_extracted_is_never_extracted(here: Here, server: ModelServer) -> None:
    file = Claude(cwd=str(here.project))
    file.user(KEPT)
    file.says("Done.")
    file.user(GONE)
    file.says("Done too.")
    put(file, here.root)
    here.sync(estimate=True)
    take_back(file)
    put(file, here.root)
    assert here.sync()["memories"]["added"] == 1
    assert not any("Memcached" in str(request) for request in server.requests)
    agrees(here)
    server.requests.clear()
    here.sync(force=True)
    assert not any("Memcached" in str(request) for request in server.requests)


def test_a_memory_with_other_proof_and_one_edited_by_hand_stay(here: Here) -> None:
    file = begun(here, Claude)
    prices = next(one for one in here.memories() if "prices" in one.title)
    other = next(one for one in here.memories() if "carts" in one.title)
    quote = other.quotes[0]
    here.append(prices.memory_id, MemoryUpdated(prices.memory_id, prices.title, prices.body, 0.5, quotes=[quote]))
    here.append(other.memory_id, MemoryEdited(other.memory_id, other.title, "By hand.", 0.5))
    take_back(file)
    put(file, here.root)
    here.sync()
    assert len(here.memories()) == 2
    agrees(here)


def test_a_file_that_was_rewritten_shorter_takes_back_what_it_lost(here: Here) -> None:
    file = begun(here, Claude)
    whole = file.lines
    file.lines = whole[:2]
    put(file, here.root)
    here.sync()
    assert [one.title for one in here.memories()] == ["carts live in Redis"]
    withdrawn = [
        row.event for row in here.store.read(session_of(here).stream) if isinstance(row.event, SessionTurnsWithdrawn)
    ]
    assert [(one.turn_from, one.turn_to) for one in withdrawn] == [(2, 4)]
    agrees(here)
    file.lines = whole  # and it comes back, as after a copy that was cut short
    put(file, here.root)
    here.sync()
    assert [turn.text for turn in stored_turns(here.store, session_of(here))][2] == GONE
    agrees(here)


def test_a_file_that_was_emptied_or_is_another_conversation_takes_nothing_back(here: Here) -> None:
    file = begun(here, Claude)
    for lines in ([], [line.replace("00000000-0000-4000", "00000000-1111-4000") for line in file.lines[:1]]):
        file.lines = lines
        put(file, here.root)
        here.sync()
        assert session_of(here).withdrawn == []
    assert len(here.memories("active")) >= 2
