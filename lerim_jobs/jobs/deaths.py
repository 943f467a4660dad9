"""Attempts that died without a word: how often, of what, and who may have caused it.

A process that dies takes every stage it ran with it, and only one of them may be to blame. So a stage that has died twice
in a row is a suspect, and a process runs one suspect at a time: whoever dies beside a stage that kills its worker has
become a suspect itself after the second time, and then is kept apart from it.

Documents: `_deaths` (`job/stage` -> deaths in a row), `_suspects` (owner -> the suspect it runs), `_exits` (machine/pid ->
how the process ended, written by the parent that saw it).
"""

from __future__ import annotations

import signal

import msgspec

from lerim_jobs.log.store import StageRow, Store, Tx

__all__ = ["SUSPECT_AFTER", "begin", "forget", "how", "in_a_row", "in_the_way", "saw_exit"]

SUSPECT_AFTER = 2
_DEATHS, _SUSPECTS, _EXITS = "_deaths", "_suspects", "_exits"
_KEEP_EXITS_MS = 3_600_000


class _Exit(msgspec.Struct, frozen=True):
    code: int
    at_ms: int


def saw_exit(store: Store, machine: str, pid: int, code: int) -> None:
    """Note how a worker process ended; negative codes are signals. Notes of an hour ago are dropped."""
    with store.write(durable=False) as tx:
        now = tx.now_ms()
        for key, value in tx.docs(_EXITS):
            if msgspec.json.decode(value, type=_Exit).at_ms < now - _KEEP_EXITS_MS:
                tx.put_doc(_EXITS, key, None)
        tx.put_doc(_EXITS, f"{machine}/{pid}", msgspec.json.encode(_Exit(code, now)))


def how(tx: Tx, row: StageRow, *, lease_ms: int) -> str:
    """What is known of the end of the process that ran the stage."""
    parts = (row.owner or "").split("/")
    stored = tx.doc(_EXITS, "/".join(parts[:2])) if len(parts) > 1 else None
    seen = msgspec.json.decode(stored, type=_Exit) if stored else None
    # Its last sign of life was a renewal; an older note is about another process that had the same pid.
    if seen is None or seen.at_ms < row.lease_until_ms - lease_ms:
        return "ended without a word"
    if seen.code >= 0:
        return f"exited with code {seen.code}"
    try:
        return f"killed by {signal.Signals(-seen.code).name}"
    except ValueError:
        return f"killed by signal {-seen.code}"


def in_a_row(tx: Tx, row: StageRow) -> int:
    """How often the stage died since it last ended with a word, the attempt that is being taken over included."""
    if not row.attempt:
        return 0
    stored = tx.doc(_DEATHS, _key(row))
    return (msgspec.json.decode(stored, type=int) if stored else 0) + (row.state == "running")


def in_the_way(tx: Tx, owner: str, deaths: int) -> bool:
    """Whether a stage that died so often has to wait because the process runs another suspect."""
    stored = tx.doc(_SUSPECTS, owner) if deaths >= SUSPECT_AFTER else None
    if not stored:
        return False
    job_id, stage = msgspec.json.decode(stored, type=tuple[str, str])
    other = tx.stage(job_id, stage)
    return other is not None and other.state == "running" and other.owner == owner


def begin(tx: Tx, row: StageRow, owner: str, deaths: int) -> None:
    """Keep the number while the stage runs once more; a suspect keeps other suspects away from its process."""
    if deaths:
        tx.put_doc(_DEATHS, _key(row), msgspec.json.encode(deaths))
        tx.put_doc(_SUSPECTS, row.owner or "", None)
    if deaths >= SUSPECT_AFTER:
        tx.put_doc(_SUSPECTS, owner, msgspec.json.encode((row.job_id, row.stage)))


def forget(tx: Tx, row: StageRow) -> None:
    """The stage ended with a word, or will never run again."""
    if row.attempt > 1:
        tx.put_doc(_DEATHS, _key(row), None)
        tx.put_doc(_SUSPECTS, row.owner or "", None)


def _key(row: StageRow) -> str:
    return f"{row.job_id}/{row.stage}"
