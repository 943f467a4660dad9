"""The one place that says what an error means for a stage: try again, when, or give up.

    error                          outcome
    RateLimited                    retry after the provider's wish, else back-off; no strike, up to 40 attempts
    RetryableError                 retry with jittered back-off: 2, 4, 8, … s, at most 5 min
    ConflictError                  retry at once: the stage decides again on fresh state
    Parked                         put aside until there is room again; no strike, no limit
    PermanentError, ConfigError    give up
    anything else (a bug)          retry with back-off
After `max_attempts` strikes every error gives up.
"""

from __future__ import annotations

import random

import msgspec

from lerim_jobs.errors import ConfigError, ConflictError, JobsError, Parked, PermanentError, RateLimited

__all__ = ["MAX_ATTEMPTS", "WITHOUT_A_STRIKE", "Decision", "backoff_ms", "decide"]

MAX_ATTEMPTS = 5
WITHOUT_A_STRIKE = frozenset({Parked.code, RateLimited.code, "handed_back"})
"""Codes of attempts that do not count against their stage."""
_MAX_BACKOFF_MS = 300_000
_RATE_LIMITED_ATTEMPTS = 40


class Decision(msgspec.Struct, frozen=True):
    """What follows from an error. `retry_in_ms` None: no further attempt. `strike`: it counts against the stage."""

    code: str
    retry_in_ms: int | None
    strike: bool = True


def decide(
    error: BaseException,
    *,
    attempt: int,
    strikes: int | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    jitter: float | None = None,
) -> Decision:
    """`attempt` and `strikes` count from 1, this one included; `jitter` in 0..1 replaces the random draw."""
    strikes = attempt if strikes is None else strikes
    code = error.code if isinstance(error, JobsError) else "bug"
    if isinstance(error, Parked):
        return Decision(code, error.retry_in_ms, strike=False)
    if isinstance(error, RateLimited) and attempt < _RATE_LIMITED_ATTEMPTS:
        wish = error.retry_after_s
        wait = backoff_ms(attempt, jitter) if wish is None else min(int(wish * 1000) + 50, _MAX_BACKOFF_MS * 12)
        return Decision(code, wait, strike=False)
    if isinstance(error, PermanentError | ConfigError) or strikes >= max_attempts:
        return Decision(code, None)
    if isinstance(error, ConflictError):
        return Decision(code, 100)
    return Decision(code, backoff_ms(strikes, jitter))


def backoff_ms(attempt: int, jitter: float | None = None) -> int:
    """2 s doubling per attempt, at most 5 min, spread over 50 to 100 % so that workers do not march in step."""
    spread = 0.5 + 0.5 * (random.random() if jitter is None else jitter)
    return int(min(_MAX_BACKOFF_MS, 2000 * 2 ** min(attempt - 1, 20)) * spread)
