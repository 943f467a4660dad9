"""Catching a read model up with the log: documents and checkpoint change in one transaction, exactly once per event."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from lerim_jobs.log.codec import Recorded
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
    "views_in",
]

S = TypeVar("S")
CHECKPOINTS = "_checkpoints"
_REWRITTEN = "_rewritten"
_BATCH = 20_000


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
                _save(tx, view, key, before, after)
            tx.put_doc(CHECKPOINTS, view.name, msgspec.json.encode([view.version, batch[-1].position]))


def views_in(store: Store) -> set[str]:
    """Where read models keep their documents: all of these can be made again from the log."""
    names = {name for name, _ in store.docs(CHECKPOINTS)}
    return names | {parts_of(name) for name in names}


def note_rewritten(tx: Tx) -> None:
    """Earlier events were changed: whoever has read them already must read them again."""
    tx.put_doc(CHECKPOINTS, _REWRITTEN, secrets.token_hex(8).encode())


def rebuild(store: Store, view: View[S]) -> None:
    """Throw the documents away and fold the whole log again."""
    with store.write() as tx:
        _clear(tx, view)
        tx.put_doc(CHECKPOINTS, view.name, None)
    catch_up(store, view)


def fold_all(store: Store, view: View[S]) -> dict[str, S]:
    """All documents of the view, by key, after catching up."""
    catch_up(store, view)
    decoder = msgspec.json.Decoder(view.shape)
    return {key: decoder.decode(value) for key, value in store.docs(view.name)}


def fold_each(store: Store, view: View[S]) -> Iterator[S]:
    """The same, one document at a time."""
    catch_up(store, view)
    decoder = msgspec.json.Decoder(view.shape)
    return (decoder.decode(value) for _, value in store.docs(view.name))


def fold_part(store: Store, view: View[S], part: str) -> dict[str, S]:
    """The documents of one part, by key, after catching up; those of other parts are not read."""
    catch_up(store, view)
    decoder, under = msgspec.json.Decoder(view.shape), f"{part}/"
    return {key.removeprefix(under): decoder.decode(value) for key, value in store.docs(parts_of(view.name), under)}


def find(store: Store, view: View[S], key: str) -> S | None:
    """One document of the view, after catching up."""
    catch_up(store, view)
    value = store.doc(view.name, key)
    return None if value is None else msgspec.json.decode(value, type=view.shape)


def peek(store: Store, view: View[S], key: str) -> S | None:
    """One document as somebody left it: for what hardly changes and is asked for all the time."""
    value = store.doc(view.name, key)
    return find(store, view, key) if value is None else msgspec.json.decode(value, type=view.shape)


def _checkpoint(stored: bytes | None, view: View[S]) -> int:
    version, position = msgspec.json.decode(stored, type=tuple[int, int]) if stored else (view.version, 0)
    return position if version == view.version else 0


def _clear(tx: Tx, view: View[S]) -> None:
    tx.clear_docs(view.name)
    tx.clear_docs(parts_of(view.name))


def _save(tx: Tx, view: View[S], key: str, before: S | None, after: S | None) -> None:
    value = None if after is None else msgspec.json.encode(after)
    tx.put_doc(view.name, key, value)
    if view.part is None:
        return
    old, new = (None if state is None else f"{view.part(state)}/{key}" for state in (before, after))
    if old and old != new:
        tx.put_doc(parts_of(view.name), old, None)
    if new:
        tx.put_doc(parts_of(view.name), new, value)


def _from(store: Store, view: View[S]) -> Callable[[str], bytes | None]:
    return lambda key: store.doc(view.name, key)


def _none(key: str) -> None:
    """A view that begins has no documents, whatever an older version of it left."""


def _folded(
    view: View[S], batch: list[Recorded], load: Callable[[str], bytes | None]
) -> dict[str, tuple[S | None, S | None]]:
    """What each document was before these events, and what it is after them."""
    decoder = msgspec.json.Decoder(view.shape)
    changed: dict[str, tuple[S | None, S | None]] = {}
    for key, row in _keyed(view, batch):
        if key not in changed:
            stored = load(key)
            before = decoder.decode(stored) if stored else None
            changed[key] = (before, before)
        before, now = changed[key]
        changed[key] = (before, view.apply(now, row))
    return changed


def _keyed(view: View[S], batch: list[Recorded]) -> Iterator[tuple[str, Recorded]]:
    for row in batch:
        if view.spread:
            yield from view.spread(row)
        else:
            yield view.key(row), row
