"""The retry table, row by row."""

from __future__ import annotations

import pytest

from lerim_jobs.errors import (
    ConfigError,
    ConflictError,
    ModelRefused,
    ModelUnavailable,
    Parked,
    RateLimited,
    WrongKey,
)
from lerim_jobs.jobs.retry import decide


@pytest.mark.parametrize("error", [ModelRefused("x"), WrongKey("x"), ConfigError("x")])
def test_permanent_errors_give_up_at_once(error: Exception) -> None:
    assert decide(error, attempt=1).retry_in_ms is None


@pytest.mark.parametrize("error", [ModelUnavailable("x"), ValueError("a bug"), ConflictError("x")])
def test_everything_else_is_tried_again_until_the_attempts_are_used_up(error: Exception) -> None:
    assert decide(error, attempt=4, max_attempts=5).retry_in_ms is not None
    assert decide(error, attempt=5, max_attempts=5).retry_in_ms is None


def test_being_told_to_wait_is_no_strike_and_parking_has_no_end() -> None:
    for attempt in (1, 39):
        decision = decide(RateLimited("x", retry_after_s=1), attempt=attempt, strikes=1)
        assert (decision.retry_in_ms, decision.strike) == (1050, False)
    assert decide(RateLimited("x"), attempt=40, strikes=1).strike
    parked = decide(Parked("x", retry_in_ms=5), attempt=500, strikes=1)
    assert (parked.retry_in_ms, parked.strike) == (5, False)


def test_the_providers_wish_is_honoured() -> None:
    assert decide(RateLimited("x", retry_after_s=7), attempt=1).retry_in_ms == 7050


def test_backoff_doubles_is_jittered_and_capped() -> None:
    waits = [decide(ModelUnavailable("x"), attempt=n, max_attempts=99, jitter=1.0).retry_in_ms for n in (1, 2, 3, 20)]
    assert waits == [2000, 4000, 8000, 300_000]
    assert decide(ModelUnavailable("x"), attempt=1, jitter=0.0).retry_in_ms == 1000


def test_codes_are_stable_and_bugs_are_named_as_such() -> None:
    assert [decide(error, attempt=1).code for error in (WrongKey("x"), ValueError("x"))] == ["wrong_key", "bug"]
