"""Redaction of the log: every event, blob and document passes here once, and a tombstone says that it was done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.jobs.rebuilding import rebuild_job
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import MemoryRedacted, RedactionApplied
from lerim_jobs.log.projection import CHECKPOINTS, note_rewritten, views_in
from lerim_jobs.log.scan import fault
from lerim_jobs.log.store import StageRow, Tx
from lerim_jobs.memory.files import looks
from lerim_jobs.memory.memory import REDACTED
from lerim_jobs.memory.stored import memory_stream
from lerim_jobs.redaction.needles import in_turn
from lerim_jobs.redaction.scrubbing import Scrubber
from lerim_jobs.sessions import transcript

__all__ = ["REDACTIONS", "LogRedaction", "neutral"]

REDACTIONS = "redactions"
"""The stream that says what was redacted when."""

_BLOBS = ("blob", "answer_blob", "output_blob")
# Names of places: without them nothing is found any more, so a pattern that matches one is told, not obeyed.
_PLACES = {
    "ProjectAdded": frozenset({"name", "path"}),
    "ProjectMoved": frozenset({"name", "path"}),
    "ProjectPlaceSeen": frozenset({"path"}),
    "SessionIndexed": frozenset({"path", "cwd"}),
    "ProjectPublished": frozenset({"path"}),
}
_TITLED = ("MemoryAdded", "MemoryUpdated", "MemoryEdited", "MemoryReverted")
_DATED = re.compile(r"\d{8}-")


class LogRedaction:
    """A `Rewriting` that removes what the scrubber finds; without `change` it only counts.

    `renamed` are memories whose file is named after a title that goes; a first pass without `change` fills it.
    """

    def __init__(
        self,
        scrubber: Scrubber,
        *,
        running: Callable[[], Iterable[StageRow]],
        alive: Callable[[str], bool | None],
        change: bool,
        renamed: set[str],
        memory_id: str | None = None,
        pattern_hash: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self._scrubber, self._running, self._alive, self._change = scrubber, running, alive, change
        self._memory_id, self._pattern_hash, self._meta = memory_id, pattern_hash, dict(meta or {})
        self._views: set[str] = set()
        self.renamed = renamed
        self.events = 0
        self.blobs = 0

    def begin(self, tx: Tx) -> None:
        """Nobody may be at work: what a worker holds in memory would be written back behind us."""
        self._views = views_in(tx)
        now = tx.now_ms()
        for row in self._running():
            if row.lease_until_ms > now and self._alive(row.owner or "") is not False:
                raise ConflictError(
                    f"{row.stage} of job {row.job_id} is running and may hold what is to be removed: wait for it "
                    "(`lerim jobs watch`) or stop the workers (`lerim down`), then redact again"
                )

    def blob(self, data: bytes) -> bytes:
        """Transcripts keep their turns and numbers, answers and outputs their shape."""
        after = self._scrubber.json(self._without_short_quotes(data))
        self.blobs += after != data
        return after if self._change else data

    def event(self, row: Recorded, moved: Mapping[str, str]) -> bytes:
        """The event's data without them, with the new hashes of its blobs."""
        hits = self._scrubber.hits
        data = self._scrubbed(row)
        if self._scrubber.hits > hits or data != row.data:
            self.events += 1
            if self._names_a_file(row):
                self.renamed.add(row.stream.removeprefix("memory-"))
        if not self._change:
            return row.data
        data = _named(_moved(data, moved), row, self.renamed)
        return _readable(row, data) if data != row.data else data

    def document(self, view: str, key: str, value: bytes, moved: Mapping[str, str]) -> bytes | None:
        """Read models of the log are made again from it when they are next read."""
        if not self._change:
            return value
        if view in self._views or view == CHECKPOINTS or view.startswith(looks.PREFIX):
            return None
        if (blob := value.decode("utf-8", "replace")) in moved:
            return moved[blob].encode()
        return self._scrubber.json(value)

    def end(self, tx: Tx) -> None:
        """The tombstones."""
        if not self._change:
            return
        if self._memory_id and tx.version(stream := memory_stream(self._memory_id)):
            tx.append(stream, [MemoryRedacted(self._memory_id)], meta=self._meta)
        applied = RedactionApplied(
            hits=self._scrubber.hits,
            events=self.events,
            blobs=self.blobs,
            memory_id=self._memory_id,
            pattern_hash=self._pattern_hash,
        )
        tx.append(REDACTIONS, [applied], meta=self._meta)
        self._clean_claim_rows(tx)
        note_rewritten(tx)

    def _clean_claim_rows(self, tx: Tx) -> None:
        """They repeat what the events of unfinished jobs said."""
        for job_id in tx.open_jobs():
            rebuild_job(tx, job_id)

    def _scrubbed(self, row: Recorded) -> bytes:
        if self._memory_id and row.stream == memory_stream(self._memory_id):
            return _blank(row, self._scrubber)
        return self._scrubber.json(row.data, _PLACES.get(row.type, frozenset()))

    def _names_a_file(self, row: Recorded) -> bool:
        if self._memory_id and row.stream == memory_stream(self._memory_id):
            return True
        if row.type not in _TITLED:
            return False
        title = msgspec.json.decode(row.data).get("title")
        return isinstance(title, str) and bool(self._scrubber.needles.sub(title)[1])

    def _without_short_quotes(self, data: bytes) -> bytes:
        quotes = self._scrubber.needles.quotes
        if not any(quote.session_id.encode() in data for quote in quotes):
            return data
        try:
            segment = transcript.decode(data)
        except msgspec.DecodeError:
            return data
        turns = []
        for turn in segment.turns:
            text = turn.text
            for quote in quotes:
                if (quote.session_id, quote.turn) == (segment.session_id, turn.n):
                    text, hits = in_turn(text, quote)
                    self._scrubber.hits += hits
            turns.append(msgspec.structs.replace(turn, text=text))
        return transcript.encode(msgspec.structs.replace(segment, turns=turns))


def neutral(path: str, memory_id: str) -> str:
    """The file's path without the words of a title in it."""
    folder, slash, name = path.rpartition("/")
    date = _DATED.match(name)
    return f"{folder}{slash}{date.group() if date else ''}redacted-{memory_id[:8]}.md"


def _blank(row: Recorded, scrubber: Scrubber) -> bytes:
    """An event of the memory itself: what is left is what happened, not what was said."""
    data: dict[str, Any] = msgspec.json.decode(row.data)
    gone: dict[str, Any] = {"title": REDACTED, "body": REDACTED, "tags": [], "quotes": [], "reason": ""}
    after = {key: gone.get(key, value) for key, value in data.items()}
    if after == data:
        return row.data
    scrubber.hits += sum(after[key] != data[key] for key in data)
    return msgspec.json.encode(after)


def _moved(data: bytes, moved: Mapping[str, str]) -> bytes:
    if not moved or not any(name.encode() in data for name in _BLOBS):
        return data
    value: dict[str, Any] = msgspec.json.decode(data)
    after = {key: moved.get(part, part) if key in _BLOBS else part for key, part in value.items()}
    return data if after == value else msgspec.json.encode(after)


def _named(data: bytes, row: Recorded, renamed: set[str]) -> bytes:
    if row.type != "ProjectPublished" or not renamed:
        return data
    value: dict[str, Any] = msgspec.json.decode(data)
    value["files"] = [
        {**file, "path": neutral(file["path"], file["memory_id"])}
        if file["memory_id"] in renamed and file["path"]
        else file
        for file in value["files"]
    ]
    return msgspec.json.encode(value)


def _readable(row: Recorded, data: bytes) -> bytes:
    """The data, unless it is what makes the event unreadable."""
    if not fault(row) and fault(msgspec.structs.replace(row, data=data)):
        raise BadInput(
            f"this pattern would make event {row.position} ({row.type}) unreadable: narrow it. Nothing was changed."
        )
    return data
