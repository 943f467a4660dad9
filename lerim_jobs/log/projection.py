"""Catching a read model up with the log: documents and checkpoint change in one transaction, exactly once per event."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from lerim_jobs.errors import CorruptLog, UnreadableEvent
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.scan import pass_over
from lerim_jobs.log.store import Store, Tx

__all__ = [
    "CHECKPOINTS",
    "View",
    "catch_up",
    "find",
    "fold_all",
    "fold_each",
    "fold_part",
    "note_rewritten",
    "parts_of",
    "peek",
    "rebuild",
    "replace_docs",
    "views_in",
]

S = TypeVar("S")
CHECKPOINTS = "_checkpoints"
_REWRITTEN = "_rewritten"
_BATCH = 5_000


class View(msgspec.Struct, Generic[S], frozen=True):
    """A fold of some event types into one document per key.

    `apply` gives the document after an event, None to have none. Raise `version` whenever `apply` or `shape` changes:
    the documents are then rebuilt from position 0. An event about several documents is split by `spread` into one row
    for each of them. With `part`, a name without `/`, documents of one part can be read without the others: each is kept
    a second time, under its part, so such a view is for small documents.
    """

    name: str
    version: int
    shape: type[S]
    types: tuple[str, ...]
    key: Callable[[Recorded], str]
    apply: Callable[[S | None, Recorded], S | None]
    spread: Callable[[Recorded], list[tuple[str, Recorded]]] | None = None
    part: Callable[[S], str] | None = None


def parts_of(view_name: str) -> str:
    """Where the documents of a view lie by their parts: the key is `part/key`."""
    return f"{view_name}.parts"


def catch_up(store: Store, view: View[S]) -> None:
    """Apply every event the view has not seen. Cheap when there is none."""
    while True:
        rewritten = store.doc(CHECKPOINTS, _REWRITTEN)
        seen = _checkpoint(store.doc(CHECKPOINTS, view.name), view)
        batch = store.read_all(seen, _BATCH, view.types) if store.position() > seen else []
        if not batch:
            return
        # Folded before the transaction, which keeps everybody else waiting: the checkpoint tells whether it still holds.
        changed = _folded(view, batch, _from(store, view) if seen else _none)
        with store.write(durable=False) as tx:  # what a crash forgets is folded again
            stored = tx.doc(CHECKPOINTS, view.name)
            if _checkpoint(stored, view) != seen or tx.doc(CHECKPOINTS, _REWRITTEN) != rewritten:
                continue  # another one was quicker, or what was read is no longer what the log says
            if seen == 0:
                _clear(tx, view)
            for key, (before, after) in changed.items():
                _save(tx.put_doc, view, key, before, after)
            tx.put_doc(CHECKPOINTS, view.name, msgspec.json.encode([view.version, batch[-1].position]))


def views_in(log: Store | Tx) -> set[str]:
    """Where read models keep their documents: all of these can be made again from the log."""
    names = {name for name, _ in log.docs(CHECKPOINTS)}
    return names | {parts_of(name) for name in names}


def note_rewritten(tx: Tx) -> None:
    """Earlier events were changed: whoever has read them already must read them again."""
    tx.put_doc(CHECKPOINTS, _REWRITTEN, secrets.token_hex(8).encode())


def rebuild(store: Store, view: View[S]) -> bool:
    """Throw the documents away and fold the whole log again. True: they were not what the log says."""
    with store.write() as tx:
        seen, before = _checkpoint(tx.doc(CHECKPOINTS, view.name), view), _documents(tx, view)
        _clear(tx, view)
        tx.put_doc(CHECKPOINTS, view.name, None)
    catch_up(store, view)
    with store.write() as tx:
        end, after = _checkpoint(tx.doc(CHECKPOINTS, view.name), view), _documents(tx, view)
    try:
        return _caught_up(store, view, before, seen, end) != after
    except CorruptLog:
        return True


def replace_docs(store: Store, view: str, counted: Callable[[Tx], dict[str, bytes]]) -> bool:
    """Put what is counted from the log, while nobody writes, in the place of the documents. True: they said something else."""
    with store.write() as tx:
        before, after = dict(tx.docs(view)), counted(tx)
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                tx.put_doc(view, key, after.get(key))
    return before != after


def fold_all(store: Store, view: View[S]) -> dict[str, S]:
    """All documents of the view, by key, after catching up. Raises CorruptLog."""
    catch_up(store, view)
    decode = _decoder(view)
    return {key: decode(value) for key, value in store.docs(view.name)}


def fold_each(store: Store, view: View[S]) -> Iterator[S]:
    """The same, one document at a time."""
    catch_up(store, view)
    decode = _decoder(view)
    return (decode(value) for _, value in store.docs(view.name))


def fold_part(store: Store, view: View[S], part: str) -> dict[str, S]:
    """The documents of one part, by key, after catching up; those of other parts are not read."""
    catch_up(store, view)
    decode, under = _decoder(view), f"{part}/"
    return {key.removeprefix(under): decode(value) for key, value in store.docs(parts_of(view.name), under)}


def find(store: Store, view: View[S], key: str) -> S | None:
    """One document of the view, after catching up. Raises CorruptLog."""
    catch_up(store, view)
    value = store.doc(view.name, key)
    return None if value is None else _decoder(view)(value)


def peek(store: Store, view: View[S], key: str) -> S | None:
    """One document as somebody left it: for what hardly changes and is asked for all the time."""
    value = store.doc(view.name, key)
    return find(store, view, key) if value is None else _decoder(view)(value)


def _checkpoint(stored: bytes | None, view: View[S]) -> int:
    version, position = msgspec.json.decode(stored, type=tuple[int, int]) if stored else (view.version, 0)
    return position if version == view.version else 0


def _clear(tx: Tx, view: View[S]) -> None:
    tx.clear_docs(view.name)
    tx.clear_docs(parts_of(view.name))


def _documents(tx: Tx, view: View[S]) -> dict[tuple[str, str], bytes]:
    """All there are, by where they lie and key."""
    return {(name, key): value for name in (view.name, parts_of(view.name)) for key, value in tx.docs(name)}


def _save(
    put: Callable[[str, str, bytes | None], None], view: View[S], key: str, before: S | None, after: S | None
) -> None:
    value = None if after is None else msgspec.json.encode(after)
    put(view.name, key, value)
    if view.part is None:
        return
    old, new = (None if state is None else f"{view.part(state)}/{key}" for state in (before, after))
    if old and old != new:
        put(parts_of(view.name), old, None)
    if new:
        put(parts_of(view.name), new, value)


def _caught_up(
    store: Store, view: View[S], docs: dict[tuple[str, str], bytes], seen: int, end: int
) -> dict[tuple[str, str], bytes]:
    """These documents, which knew the log up to `seen`, as they are at `end`."""
    known = docs if seen else {}

    def put(name: str, key: str, value: bytes | None) -> None:
        known.pop((name, key), None)
        if value is not None:
            known[name, key] = value

    while rows := [row for row in store.read_all(seen, _BATCH, view.types) if row.position <= end]:
        seen = rows[-1].position
        for key, (before, after) in _folded(view, rows, lambda key: known.get((view.name, key))).items():
            _save(put, view, key, before, after)
    return known


def _from(store: Store, view: View[S]) -> Callable[[str], bytes | None]:
    return lambda key: store.doc(view.name, key)


def _none(key: str) -> None:
    """A view that begins has no documents, whatever an older version of it left."""


def _folded(
    view: View[S], batch: list[Recorded], load: Callable[[str], bytes | None]
) -> dict[str, tuple[S | None, S | None]]:
    """What each document was before these events, and what it is after them. What cannot be read changes nothing."""
    decode = _decoder(view)
    changed: dict[str, tuple[S | None, S | None]] = {}
    for row in batch:
        try:
            for key, part in view.spread(row) if view.spread else [(view.key(row), row)]:
                if key not in changed:
                    stored = load(key)
                    before = decode(stored) if stored else None
                    changed[key] = (before, before)
                before, now = changed[key]
                changed[key] = (before, view.apply(now, part))
        except UnreadableEvent as exc:
            pass_over(exc)
    return changed


def _decoder(view: View[S]) -> Callable[[bytes], S]:
    decoder = msgspec.json.Decoder(view.shape)

    def decode(value: bytes) -> S:
        try:
            return decoder.decode(value)
        except msgspec.DecodeError as exc:
            raise CorruptLog(f"a document of {view.name!r} is damaged ({exc}): `lerim rebuild` makes it anew") from exc

    return decode
