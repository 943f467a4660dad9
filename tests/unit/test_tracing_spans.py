"""The local span store keeps spans exactly and never keeps one twice."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.spans import skeleton
from tests.job_streams import START_MS, TRACE_ID, JobStream

BONES = skeleton(JobStream().requested("index").started("index").failed("index").started("index", 2).rows)


def ordered(spans: list) -> list:  # type: ignore[type-arg]  # any spans
    return sorted(spans, key=lambda span: (span.start_ns, span.span_id))


def test_spans_come_back_as_they_were_put(tmp_path: Path) -> None:
    SpanStore(tmp_path / "t.sqlite3").put(BONES)
    assert SpanStore(tmp_path / "t.sqlite3").of_trace(TRACE_ID) == ordered(BONES)
    assert SpanStore(tmp_path / "t.sqlite3").of_job("sync-1") == ordered(BONES)


def test_span_put_again_replaces_itself(tmp_path: Path) -> None:
    store = SpanStore(tmp_path / "t.sqlite3")
    store.put(BONES)
    store.put([msgspec.structs.replace(BONES[0], name="again")])
    assert len(store.of_trace(TRACE_ID)) == len(BONES)
    assert "again" in {span.name for span in store.of_trace(TRACE_ID)}


def test_reading_a_missing_store_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    store = SpanStore(tmp_path / "t.sqlite3")
    assert (store.of_trace(TRACE_ID), store.of_job("sync-1"), store.prune(1)) == ([], [], 0)
    assert list(tmp_path.iterdir()) == []


def test_store_is_private_to_the_user(tmp_path: Path) -> None:
    SpanStore(tmp_path / "t.sqlite3").put(BONES)
    assert (tmp_path / "t.sqlite3").stat().st_mode & 0o777 == 0o600


def test_prune_forgets_old_spans_only(tmp_path: Path) -> None:
    store = SpanStore(tmp_path / "t.sqlite3")
    store.put(BONES)
    assert store.prune(START_MS * 1_000_000) == 0
    assert store.prune(2**70) == len(BONES)
    assert store.of_trace(TRACE_ID) == []


def test_broken_file_is_reported_as_unavailable(tmp_path: Path) -> None:
    (tmp_path / "t.sqlite3").write_bytes(b"no database" * 1000)
    store = SpanStore(tmp_path / "t.sqlite3")
    with pytest.raises(StoreUnavailable, match="spans"):
        store.of_trace(TRACE_ID)
    with pytest.raises(StoreUnavailable, match="spans"):
        store.put(BONES)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_store_survives_a_fork(tmp_path: Path) -> None:
    store = SpanStore(tmp_path / "t.sqlite3")
    store.put(BONES[:1])
    parents_connection = store._db()
    if (pid := os.fork()) == 0:
        try:
            store.put(BONES[1:])
            os._exit(store._db() is parents_connection)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(store.of_trace(TRACE_ID)) == len(BONES)
