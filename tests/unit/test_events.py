"""Every event that was ever written decodes for ever; what a newer version wrote is left alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lerim_jobs.errors import CorruptLog
from lerim_jobs.log import codec
from lerim_jobs.log.codec import Recorded, encode, schema_of
from lerim_jobs.log.events import EVENTS, SCHEMA, TraceClosed
from tests.golden.make import ROWS

GOLDEN: list[dict[str, Any]] = [msgspec.json.decode(line) for line in ROWS.read_text("utf-8").splitlines()]


def recorded(kind: str, schema: int, data: Any) -> Recorded:
    return Recorded(1, "id", "s", 1, kind, schema, msgspec.json.encode(data), {}, 0)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['type']}-{row['schema']}")
def test_golden_rows_decode_and_lose_nothing(row: dict[str, Any]) -> None:
    event = recorded(row["type"], row["schema"], row["data"]).event
    assert event is not None
    if row["schema"] == schema_of(row["type"]):
        assert msgspec.json.decode(encode(event)) == row["data"]


def test_every_event_type_has_a_golden_row_of_its_schema() -> None:
    assert {(row["type"], row["schema"]) for row in GOLDEN} >= {(name, schema_of(name)) for name in EVENTS}


def test_an_unknown_type_and_a_newer_schema_are_skipped_not_fatal() -> None:
    assert recorded("InventedLater", 1, {}).event is None
    assert recorded("TraceClosed", 99, {"spans": 1, "new": 2}).event is None


def test_an_older_schema_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMA, "TraceClosed", 2)
    monkeypatch.setitem(codec.LIFTS, ("TraceClosed", 1), lambda data: {"spans": data["count"]})
    assert recorded("TraceClosed", 1, {"count": 3}).event == TraceClosed(spans=3)


def test_a_wrong_type_in_a_row_is_named() -> None:
    with pytest.raises(CorruptLog, match="TraceClosed"):
        _ = recorded("TraceClosed", 1, {"spans": "many"}).event
