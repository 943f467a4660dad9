"""index: find new and grown sessions, store what they added, and take for extraction what belongs to a project.

Reads   the session files of this host, only their new bytes (none where `streams` names sessions to
        take again); the sessions and projects read models; how the memory files look
Writes  one SessionIndexed per new or grown file, one SessionScheduled per session taken, the stages of each; a publish for
        projects whose files were edited by hand
Raises  ConfigError (unknown agent), ConflictError (another index ran meanwhile: decided again)
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs import ids
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.kinds.sync import SessionPlan, after_index
from lerim_jobs.log.events import Event, SessionIndexed, SessionScheduled
from lerim_jobs.log.projection import fold_all
from lerim_jobs.memory.files.survey import needs_publish
from lerim_jobs.memory.memory import REDACTED
from lerim_jobs.projects import Project, active_projects
from lerim_jobs.sessions import discovery, projects, transcript
from lerim_jobs.sessions.reader import Checkpoint, Found, Reading, is_unchanged, read
from lerim_jobs.sessions.session import SESSIONS, FileMark, SegmentMark, Session, session_stream
from lerim_jobs.sessions.stored import stored_turns
from lerim_jobs.sessions.transcript import Turn
from lerim_jobs.sessions.windows import CHARS_PER_TOKEN, cut
from workers.stage import Outcome, StageContext

__all__ = ["run"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Scan:
    """What one pass over the files found. `sessions` is the read model with this pass on top."""

    sessions: dict[str, Session]
    segments: dict[str, list[Turn]] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    blobs: list[bytes] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    beginnings: dict[str, set[str]] = field(default_factory=dict)
    """Streams by the key of their first turn: copies and forks begin alike."""

    def __post_init__(self) -> None:
        for session in self.sessions.values():
            self.note_beginning(session)

    def note_beginning(self, session: Session) -> None:
        if session.first_key:
            self.beginnings.setdefault(session.first_key, set()).add(session.stream)

    def skip(self, reason: str) -> None:
        self.counts["skipped"] += 1
        self.reasons[reason] += 1

    def add(self, stream: str, event: Event) -> None:
        self.versions.setdefault(stream, self.sessions[stream].version if stream in self.sessions else 0)
        self.events.setdefault(stream, []).append(event)


def run(ctx: StageContext) -> Outcome:
    """Scan, read what is new, and plan the extraction of what is waiting."""
    scan = _Scan(dict(fold_all(ctx.store, SESSIONS)))
    _read_files(ctx, scan)
    known = {key: project for key, project in active_projects(ctx.store).items() if project.host == ctx.host}
    plans, left = _take(ctx, scan, known)
    is_estimate = bool(ctx.input.get("estimate"))
    touched: list[str] = []
    if not (ctx.input.get("dry_run") or is_estimate):
        touched = [key for key, project in known.items() if needs_publish(ctx.store, project)]
        for plan in plans:
            taken = SessionScheduled(ctx.job_id, plan.project_id, plan.turn_from, plan.turn_to)
            scan.add(plan.stream, taken)
    output = {
        **{name: scan.counts[name] for name in ("found", "indexed", "unchanged", "skipped")},
        "skipped_reasons": dict(sorted(scan.reasons.items())),
        "turns": scan.counts["turns"],
        "kept_bytes": scan.counts["kept_bytes"],
        "redactions": scan.counts["redactions"],
        "taken": len(plans),
        "windows": sum(plan.windows for plan in plans),
        "left": dict(sorted(left.items())),
        **({"estimate": _estimate(ctx, scan, plans)} if is_estimate else {}),
    }
    effects = [Effect(stream, events, scan.versions[stream]) for stream, events in scan.events.items()]
    stages = [] if is_estimate else after_index(plans, host=ctx.host, params=ctx.input, touched=touched)
    return Outcome(output, effects, scan.blobs, stages)


def _read_files(ctx: StageContext, scan: _Scan) -> None:
    if ctx.input.get("streams"):
        return
    roots = discovery.roots(ctx.env, ctx.settings.agents)
    wanted = ctx.input.get("agents")
    found, unread = discovery.scan({agent: paths for agent, paths in roots.items() if not wanted or agent in wanted})
    for problem in unread:
        scan.skip(problem.reason)
    scan.counts["found"] = len(found) + len(unread)
    marks = {mark.path: (session, mark) for session in scan.sessions.values() for mark in session.files.values()}
    since_ns = (ctx.input.get("since_ms") or 0) * 1_000_000
    for file in found:
        session, mark = marks.get(file.path, (None, None))
        if mark and is_unchanged(file, mark):
            scan.counts["unchanged"] += 1
        elif file.mtime_ns < since_ns:
            scan.skip("outside the window")
        else:
            _read_file(ctx, scan, file, session, mark)


def _read_file(ctx: StageContext, scan: _Scan, file: Found, session: Session | None, mark: FileMark | None) -> None:
    checkpoint = _checkpoint(mark, session) if mark and session else None
    try:
        reading = read(
            file,
            checkpoint,
            now_ms=ctx.now_ms,
            known=lambda session, first: _known_keys(ctx, scan, file.agent, session, first),
        )
    except OSError as exc:
        scan.skip(f"unreadable: {exc.strerror}")
        return
    except Exception as exc:
        # A bug of a reader: it must cost this file, not the sync of all others.
        _log.exception("the reader of %s failed on %r", file.agent, file.path)
        scan.skip(f"the reader failed: {type(exc).__name__}")
        return
    if reading is None:
        scan.counts["unchanged"] += 1
        return
    stream = session_stream(reading.agent, reading.session_id)
    turns = _numbered(reading.turns, scan.sessions.get(stream), checkpoint)
    blob = transcript.encode(transcript.Segment(reading.agent, reading.session_id, turns)) if turns else None
    event = _indexed(ctx, file, reading, turns, blob)
    alike = {stream, *scan.beginnings.get(reading.first_key or "", ())} & scan.sessions.keys()
    if any(REDACTED in (scan.sessions[one].title or "") for one in alike):
        # Agents write a session's title again and again, also into forks: what was taken out of it stays out.
        event = msgspec.structs.replace(event, title=None)
    if turns and blob:
        scan.blobs.append(blob)
        scan.segments.setdefault(stream, []).extend(turns)
        scan.counts["indexed"] += 1
    else:
        scan.skip(reading.skip_reason or "nothing new to keep")
    scan.counts.update(turns=len(turns), kept_bytes=reading.kept_bytes, redactions=reading.redactions)
    scan.add(stream, event)
    scan.sessions[stream] = _with(scan.sessions.get(stream), stream, event)
    scan.note_beginning(scan.sessions[stream])


def _numbered(turns: Sequence[Turn], session: Session | None, checkpoint: Checkpoint | None) -> list[Turn]:
    """Turn numbers go on where the session stands, also when a second file adds to it."""
    start = session.turns if session else 0
    if checkpoint and turns and turns[0].n == start:
        return list(turns)
    return [msgspec.structs.replace(turn, n=start + i) for i, turn in enumerate(turns)]


def _checkpoint(mark: FileMark, session: Session) -> Checkpoint:
    return Checkpoint(
        path=mark.path,
        size_bytes=mark.size_bytes,
        mtime_ns=mark.mtime_ns,
        inode=mark.inode,
        offset=mark.offset,
        tail_hash=mark.tail_hash,
        next_turn=session.turns,
        state=mark.state,
    )


def _known_keys(ctx: StageContext, scan: _Scan, agent: str, session_id: str, first_key: str) -> frozenset[str]:
    """Keys of what is kept of this session, and of sessions that begin with the same turn: copies and forks."""
    keys: set[str] = set()
    for stream in {session_stream(agent, session_id), *scan.beginnings.get(first_key, ())}:
        keys.update(turn.key for turn in scan.segments.get(stream, ()))
        if session := scan.sessions.get(stream):
            keys.update(turn.key for turn in stored_turns(ctx.store, session))
    return frozenset(keys)


def _indexed(
    ctx: StageContext, file: Found, reading: Reading, turns: Sequence[Turn], blob: bytes | None
) -> SessionIndexed:
    return SessionIndexed(
        agent=reading.agent,
        session_id=reading.session_id,
        path=file.path,
        host=ctx.host,
        size_bytes=file.size_bytes,
        mtime_ns=file.mtime_ns,
        inode=file.inode,
        offset=reading.offset,
        tail_hash=reading.tail_hash,
        turn_from=turns[0].n if turns else 0,
        turn_to=turns[-1].n + 1 if turns else 0,
        blob=ids.digest(blob) if blob else None,
        skip_reason=reading.skip_reason,
        cwd=reading.cwd,
        branch=reading.branch,
        title=reading.title,
        started_ms=reading.started_ms,
        last_ms=reading.last_ms,
        human_prompts=reading.human_prompts,
        kept_bytes=reading.kept_bytes,
        redactions=reading.redactions,
        first_key=reading.first_key,
        dropped=dict(reading.dropped),
        state=reading.state,
    )


def _with(session: Session | None, stream: str, event: SessionIndexed) -> Session:
    """The read model as it will be once the event is in the log; segments stay out, their turns are in memory."""
    old = session or Session(stream, event.agent, event.session_id)
    return msgspec.structs.replace(
        old,
        turns=max(old.turns, event.turn_to),
        segments=[*old.segments, SegmentMark(event.turn_from, event.turn_to, "")] if event.blob else old.segments,
        cwd=old.cwd or event.cwd,
        title=event.title or old.title,
        first_key=old.first_key or event.first_key,
        last_ms=max(filter(None, (old.last_ms, event.last_ms)), default=None),
        human_prompts=old.human_prompts + event.human_prompts,
    )


def _take(ctx: StageContext, scan: _Scan, known: Mapping[str, Project]) -> tuple[list[SessionPlan], Counter[str]]:
    """Sessions to extract now, the oldest first, and why the others with waiting turns are left."""
    left: Counter[str] = Counter()
    folders = {key: project.path for key, project in known.items()}
    ready: list[tuple[Session, str]] = []
    match = cache(lambda cwd: projects.match(cwd, folders))
    for session in sorted(scan.sessions.values(), key=lambda one: (one.last_ms or 0, one.stream)):
        if not session.human_prompts or not (session.waiting or ctx.input.get("force")):
            continue
        project_id = match(session.cwd) if session.cwd else None
        reason = _left_because(ctx, session, project_id)
        if reason:
            left[reason] += 1
        elif project_id:
            ready.append((session, project_id))
    limit = ctx.input.get("max_sessions") or len(ready)
    if len(ready) > limit:
        left["over the limit of sessions per run"] = len(ready) - limit
    return [_plan(ctx, scan, session, known[project_id]) for session, project_id in ready[:limit]], left


def _estimate(ctx: StageContext, scan: _Scan, plans: Sequence[SessionPlan]) -> dict[str, Any]:
    from workers.models.estimate import Waiting, estimate

    waiting = []
    for plan in plans:
        turns = [*stored_turns(ctx.store, scan.sessions[plan.stream]), *scan.segments.get(plan.stream, ())]
        tokens = sum(int(len(turn.text) / CHARS_PER_TOKEN) for turn in turns if plan.turn_from <= turn.n < plan.turn_to)
        waiting.append(Waiting(tokens, plan.windows))
    return estimate(waiting, ctx.settings, ctx.env)


def _left_because(ctx: StageContext, session: Session, project_id: str | None) -> str | None:
    params: Mapping[str, Any] = ctx.input
    if params.get("streams") and session.stream not in params["streams"]:
        return "another session"
    if params.get("agents") and session.agent not in params["agents"]:
        return "another agent"
    if params.get("session_id") and not session.session_id.startswith(params["session_id"]):
        return "another session"
    if not (params.get("since_ms") or 0) <= (session.last_ms or 0) <= (params.get("until_ms") or 1 << 62):
        return "outside the window"
    if project_id is None:
        return "no registered project"
    if session.taken_by and ctx.store.has_stages(session.taken_by):
        return "another job works on it"
    return None


def _plan(ctx: StageContext, scan: _Scan, session: Session, project: Project) -> SessionPlan:
    role = ctx.settings_of(Path(project.path)).roles.extract
    turn_from, turn_to = (0, session.turns) if ctx.input.get("force") else session.next_turns
    turns = [*stored_turns(ctx.store, session), *scan.segments.get(session.stream, ())]
    windows = cut(
        [turn for turn in turns if turn_from <= turn.n < turn_to],
        max_tokens=role.max_window_tokens,
        overlap_tokens=role.window_overlap_tokens,
    )
    return SessionPlan(
        key=ids.derived(session.stream, length=8),
        stream=session.stream,
        session_id=session.session_id,
        agent=session.agent,
        project_id=project.project_id,
        turn_from=turn_from,
        turn_to=turn_to,
        windows=len(windows),
        window_tokens=role.max_window_tokens,
        overlap_tokens=role.window_overlap_tokens,
        title=session.title or "",
    )
