"""Copying the state folder while everything runs, and looking whether a copy is sound.

A backup is a folder, or one `.tar.gz`, with the log, the traces, the settings and a manifest of what belongs to it. Keys
(`.env`), the queue and everything that is derived are not in it. `restore.py` puts one back.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec

from lerim_jobs import __version__
from lerim_jobs.clock import iso, now_ms
from lerim_jobs.errors import BadInput, CorruptLog, StoreUnavailable
from lerim_jobs.log.sqlite import SCHEMA_VERSION
from lerim_jobs.paths import Home, make_private
from lerim_jobs.sqlite import copy_database, damage

__all__ = ["DATABASES", "SCRATCH", "Manifest", "back_up", "file_digest", "unpacked", "verify"]

_MANIFEST = "manifest.json"
DATABASES = ("log.sqlite3", "traces.sqlite3")
SCRATCH = ".lerim-"
"""How names of folders begin that a backup or a restore works in."""
_FILES = (*DATABASES, "config.toml")
_ARCHIVE = ".tar.gz"


class Manifest(msgspec.Struct, frozen=True):
    """What a backup is: `files` maps names to SHA-256, `events` counts those of the log."""

    made_at: str
    version: str
    schema: int
    events: int
    files: dict[str, str]
    size_bytes: int = 0


def back_up(home: Home, target: Path) -> Manifest:
    """Copy the state to a folder that does not exist, or to a `.tar.gz`. Works while workers run.

    Raises BadInput (the target exists), StoreUnavailable, CorruptLog (the copy is damaged: so is the log).
    """
    if target.exists():
        raise BadInput(f"{str(target)!r} exists already: name a new folder or a new .tar.gz file")
    if not home.log.exists():
        raise BadInput(f"there is nothing to back up in {str(home.root)!r}")
    make_private(target.parent)
    with _scratch(target.parent) as folder:
        manifest = _copy(home, folder)
        if target.name.endswith(_ARCHIVE):
            packed = folder.with_suffix(_ARCHIVE)
            try:
                _pack(folder, packed)
                packed.replace(target)
            finally:
                packed.unlink(missing_ok=True)
        else:
            folder.replace(target)
    return manifest


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A private folder on the same file system as where its contents will go."""
    folder = parent / f"{SCRATCH}{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(home: Home, folder: Path) -> Manifest:
    names = [name for name in _FILES if (home.root / name).exists()]
    for name in names:
        try:
            if name in DATABASES:
                copy_database(home.root / name, folder / name)
            else:
                (folder / name).write_bytes((home.root / name).read_bytes())
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot copy {str(home.root / name)!r}: {exc}") from exc
        (folder / name).chmod(0o600)
    schema, events = _look(folder / DATABASES[0])
    manifest = Manifest(
        made_at=iso(now_ms()) or "",
        version=__version__,
        schema=schema,
        events=events,
        files={name: file_digest(folder / name) for name in names},
        size_bytes=sum((folder / name).stat().st_size for name in names),
    )
    path = folder / _MANIFEST
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    path.chmod(0o600)
    verify(folder, manifest)
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Whether what was copied is whole and what it says it is. Raises CorruptLog, BadInput naming the file."""
    if manifest.schema > SCHEMA_VERSION:
        raise BadInput(f"the backup is of schema {manifest.schema}, this lerim knows {SCHEMA_VERSION}: upgrade first")
    for name, digest in manifest.files.items():
        if file_digest(folder / name) != digest:
            raise CorruptLog(f"{name} of the backup is not what the manifest says: it was changed or damaged")
        if name in DATABASES and (problem := damage(folder / name, thorough=True)):
            raise CorruptLog(f"{name} of the backup is damaged: {problem}")
    if DATABASES[0] not in manifest.files:
        raise BadInput("the backup has no log")
    events = _look(folder / DATABASES[0])[1]
    if events != manifest.events:
        raise CorruptLog(f"the backup's log has {events} events, its manifest says {manifest.events}")


def _look(log: Path) -> tuple[int, int]:
    """Schema and number of events of a log file."""
    try:
        db = apsw.Connection(str(log), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            return db.pragma("user_version"), next(iter(db.execute("SELECT COUNT(*) FROM events")))[0]
        finally:
            db.close()
    except apsw.Error as exc:
        raise CorruptLog(f"{log.name} of the backup cannot be read: {exc}") from exc


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as the manifest has it. Raises CorruptLog."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise CorruptLog(f"{path.name} of the backup cannot be read: {exc.strerror}") from exc


def _pack(folder: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)


def unpacked(source: Path, folder: Path) -> Manifest:
    """Copy what a backup consists of into the folder; names outside the list are never looked at. Raises BadInput."""
    try:
        if source.is_dir():
            for name in (_MANIFEST, *_FILES):
                if (source / name).is_file():
                    shutil.copyfile(source / name, folder / name)
        else:
            _unpack(source, folder)
        manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, EOFError, tarfile.TarError, msgspec.DecodeError) as exc:
        raise BadInput(f"{str(source)!r} is no backup made by `lerim backup`: {exc}") from exc
    if not manifest.files or not set(manifest.files) <= set(_FILES):
        raise BadInput(f"{str(source)!r} names files that a backup does not have")
    for name in manifest.files:
        if (folder / name).exists():
            (folder / name).chmod(0o600)
    return manifest


def _unpack(source: Path, folder: Path) -> None:
    with tarfile.open(source, "r:gz") as archive:
        room = shutil.disk_usage(folder).free
        for member in archive:
            if member.name not in (_MANIFEST, *_FILES) or not member.isfile():
                continue
            room -= member.size
            if room < 0:
                raise OSError(f"{member.name} is larger than the free disk space")
            content = archive.extractfile(member)
            assert content is not None, "regular files have content"
            with (folder / member.name).open("wb") as file:
                shutil.copyfileobj(content, file)
