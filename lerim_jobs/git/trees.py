"""Which files a commit has, read from git's objects; what cannot be read is not known, and nothing is guessed."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath

from lerim_jobs.git.files import open_plain
from lerim_jobs.git.packs import BadObject, Packs, inflated

__all__ = ["Trees"]

_MOST_OBJECT_BYTES = 16_777_216
_MOST_BYTES = 268_435_456
"""Of all objects together that are read for one question."""


class Trees:
    """The trees of a repository, `common` being its own folder. What was read once is kept."""

    def __init__(self, common: Path) -> None:
        self.objects = common / "objects"
        self.left_bytes = _MOST_BYTES
        self.packs: dict[int, Packs] = {}
        self.roots: dict[str, bytes] = {}
        self.folders: dict[bytes, dict[str, bytes]] = {}

    def holds(self, commit: str, path: str) -> bool | None:
        """Whether the commit, by its full name in hex, has a file at the path, relative to the repository; None: not known.

        No commit at all, which git writes as zeros, has none. Letters of either case and all Unicode forms are one, as on file
        systems that do not tell them apart.
        """
        if not commit.strip("0"):
            return False
        *folders, name = map(_plain, PurePosixPath(path).parts)
        try:
            tree = self._root(commit)
            for folder in folders:
                inner = self._folder(tree).get(folder)
                if inner is None:
                    return False
                tree = inner
            return name in self._folder(tree)
        except (BadObject, OSError, ValueError):
            return None

    def _root(self, commit: str) -> bytes:
        if commit not in self.roots:
            line = self._read(bytes.fromhex(commit), "commit").partition(b"\n")[0]
            self.roots[commit] = bytes.fromhex(line.removeprefix(b"tree ").decode("ascii"))
        return self.roots[commit]

    def _folder(self, name: bytes) -> dict[str, bytes]:
        """Names of objects by the names they have in the folder."""
        if name not in self.folders:
            found, data, at = {}, self._read(name, "tree"), 0
            while at < len(data):
                end = data.index(b"\0", at)
                called = data[at:end].partition(b" ")[2]
                at = end + 1 + len(name)
                found[_plain(called.decode("utf-8", "surrogateescape"))] = data[end + 1 : at]
            self.folders[name] = found
        return self.folders[name]

    def _read(self, name: bytes, wanted: str) -> bytes:
        most_bytes = min(_MOST_OBJECT_BYTES, self.left_bytes)
        try:
            kind, data = self._loose(name.hex(), most_bytes)
        except OSError:
            kind, data = self._packs(len(name)).read(name, most_bytes)
        self.left_bytes -= len(data)
        if kind != wanted:
            raise BadObject(f"a {kind}, not a {wanted}")
        return data

    def _loose(self, name: str, most_bytes: int) -> tuple[str, bytes]:
        descriptor = open_plain(self.objects / name[:2] / name[2:])
        try:
            head, _, data = inflated(descriptor, 0, most_bytes).partition(b"\0")
        finally:
            os.close(descriptor)
        return head.partition(b" ")[0].decode("ascii", "replace"), data

    def _packs(self, name_bytes: int) -> Packs:
        if name_bytes not in self.packs:
            self.packs[name_bytes] = Packs(self.objects / "pack", name_bytes)
        return self.packs[name_bytes]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
