"""Admission of model calls on every store: caps, reservations, days, and what a provider may be asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.config import Budget, Provider, Settings
from lerim_jobs.errors import Parked
from lerim_jobs.jobs import budget, parking, recount
from lerim_jobs.jobs.caps import Spent, Wish
from lerim_jobs.log.events import ModelCalled
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store
from tests.memory_store import MemoryStore

DAY_MS = 86_400_000


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


def wish(usd: float | None = 1.0, **changes: Any) -> Wish:
    return Wish(
        **{
            "job_id": "j",
            "role": "lead",
            "provider": "openai",
            "usd": usd,
            "tokens": 1000,
            "owner": "me",
            "hold_ms": 60_000,
            **changes,
        }
    )


def called(cost: float | None = 1.0, role: str = "lead", tokens: int = 500) -> ModelCalled:
    return ModelCalled("s", 1, role, "h", 0, "b", "m", "m", "openai", tokens, tokens, 5, cost_usd=cost)


def admit(store: Store, key: str, one: Wish, settings: Settings, *, alive: bool = True) -> float:
    return budget.admit(store, key, one, settings, alive=lambda owner: alive)


def settle(store: Store, key: str, event: ModelCalled, job_id: str = "j") -> None:
    with store.write() as tx:
        budget.settle(tx, [key], event, job_id)


def capped(**caps: Any) -> Settings:
    return Settings(budget=Budget(**caps))


@pytest.mark.parametrize("cap", ["per_job_usd", "per_day_usd"])
def test_spent_and_reserved_together_never_pass_a_cap(store: Store, cap: str) -> None:
    settings = capped(**{"per_job_usd": math.inf, "per_day_usd": math.inf, cap: 2.5})
    assert admit(store, "a", wish(), settings) == 0
    assert admit(store, "b", wish(), settings) == 0
    assert admit(store, "c", wish(), settings) > 0
    settle(store, "a", called(0.2))
    assert admit(store, "c", wish(), settings) == 0
    settle(store, "b", called(1.0))
    settle(store, "c", called(0.9))
    with pytest.raises(Parked, match=cap) as caught:
        admit(store, "d", wish(), settings)
    assert budget.spent(store).usd == pytest.approx(2.1)
    assert ("after midnight UTC" in str(caught.value)) == (cap == "per_day_usd")
    assert admit(store, "d", wish(0.3), settings) == 0


def test_a_role_has_a_cap_of_its_own_and_other_jobs_share_the_day(store: Store) -> None:
    settings = capped(per_role_usd={"lead": 1.0}, per_day_usd=3.0)
    settle(store, "x", called(0.5))
    with pytest.raises(Parked, match=r"per_role_usd\.lead"):
        admit(store, "a", wish(0.6), settings)
    assert admit(store, "b", wish(0.6, role="extract"), settings) == 0
    settle(store, "b", called(2.0, role="extract"), "another job")
    with pytest.raises(Parked, match="per_day_usd"):
        admit(store, "c", wish(0.6, role="extract", job_id="third"), settings)


def test_unpriced_models_are_capped_by_tokens(store: Store) -> None:
    settings = capped(per_job_unpriced_tokens=2500.0, per_day_usd=1.0)
    assert admit(store, "a", wish(None), settings) == 0
    settle(store, "a", called(None, tokens=900))
    assert budget.spent(store) == Spent(0.0, 1800)
    with pytest.raises(Parked, match="1,000 tokens, and 1,800 tokens of 2,500 tokens"):
        admit(store, "b", wish(None), settings)
    settle(store, "x", called(1.0), "another job")
    with pytest.raises(Parked, match="per_day_usd"):
        admit(store, "c", wish(None, job_id="fresh"), settings)


def test_what_a_dead_worker_reserved_counts_until_its_call_must_be_over(store: Store) -> None:
    settings = capped(per_day_usd=1.5)
    assert admit(store, "a", wish(hold_ms=1_000_000), settings) == 0
    assert admit(store, "b", wish(), settings, alive=False) > 0
    budget.drop(store, ["a"])
    assert admit(store, "c", wish(hold_ms=0), settings) == 0
    assert admit(store, "d", wish(), settings) == 0


def test_b5_a_provider_is_asked_by_so_many_at_once_and_dead_workers_hold_no_place(store: Store) -> None:
    settings = Settings(providers={"openai": Provider(max_concurrency=2)})
    assert [admit(store, key, wish(0.0), settings) for key in "ab"] == [0, 0]
    assert 0 < admit(store, "c", wish(0.0), settings) < 1
    assert admit(store, "d", wish(0.0, provider="zai"), settings) == 0
    assert admit(store, "c", wish(0.0), settings, alive=False) == 0
    budget.drop(store, ["a", "b", "c"])
    assert admit(store, "e", wish(0.0), settings) == 0


def test_b5_a_provider_is_asked_so_often_a_minute() -> None:
    now = [10_000_000_000]
    store = MemoryStore(clock=lambda: now[0])
    settings = Settings(providers={"openai": Provider(requests_per_minute=2)})
    for key in "ab":
        assert admit(store, key, wish(0.0), settings) == 0
        budget.drop(store, [key])
        now[0] += 10_000
    assert admit(store, "c", wish(0.0), settings) == pytest.approx(40)
    now[0] += 40_001
    assert admit(store, "c", wish(0.0), settings) == 0
    assert admit(store, "d", wish(0.0), settings) == pytest.approx(10, abs=0.01)


def test_a_parked_stage_wakes_the_next_day_or_when_the_cap_is_raised() -> None:
    now = [20_000 * DAY_MS + DAY_MS - 5_000]
    store = MemoryStore(clock=lambda: now[0])
    settings = capped(per_day_usd=1.0)
    settle(store, "x", called(0.5))
    with pytest.raises(Parked) as caught:
        admit(store, "a", wish(), settings)
    with store.write() as tx:
        assert caught.value.waits_for is not None
        parking.note(tx, "j", "integrate:1", caught.value.waits_for)
    assert parking.woken(store, settings) == []
    assert parking.woken(store, capped(per_day_usd=2.0)) == [("j", "integrate:1")]
    now[0] += 5_000
    assert parking.woken(store, settings) == [("j", "integrate:1")]
    assert admit(store, "a", wish(), settings) == 0


def test_the_sums_are_rebuilt_from_the_log(store: Store) -> None:
    for job_id, event in (("j", called(0.25)), ("j", called(None)), ("k", called(1.5, role="extract"))):
        with store.write() as tx:
            tx.append(f"job-{job_id}", [event])
            budget.settle(tx, [], event, job_id)
    before = sorted(store.docs("_spent"))
    assert [key for key, _ in before][-2:] == ["job/j", "job/k"]
    assert not recount.sums(store)
    with store.write() as tx:
        tx.put_doc("_spent", "job/j", None)
        tx.put_doc("_spent", "job/nobody", b"{}")
    assert recount.sums(store)
    assert sorted(store.docs("_spent")) == before
    assert msgspec.json.decode(dict(before)["job/j"], type=Spent) == Spent(0.25, 1000)
