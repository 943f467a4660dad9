"""The one place that says what an error means for a stage: try again, when, or give up.

    error                          outcome
    RateLimited                    retry after the provider's wish, else back-off
    RetryableError                 retry with jittered back-off: 2, 4, 8, … s, at most 5 min
    ConflictError                  retry at once: the stage decides again on fresh state
    Parked                         retry later, not counted as a failure by the user's eyes
    PermanentError, ConfigError    give up
    anything else (a bug)          retry with back-off
After `max_attempts` attempts every error gives up.
"""

from __future__ import annotations

import random

import msgspec

from lerim_jobs.errors import ConfigError, ConflictError, JobsError, Parked, PermanentError, RateLimited

__all__ = ["MAX_ATTEMPTS", "Decision", "backoff_ms", "decide"]

MAX_ATTEMPTS = 5
_MAX_BACKOFF_MS = 300_000
_PARKED_MS = 600_000


class Decision(msgspec.Struct, frozen=True):
    """What follows from an error. `retry_in_ms` None: no further attempt."""

    code: str
    retry_in_ms: int | None


def decide(
    error: BaseException, *, attempt: int, max_attempts: int = MAX_ATTEMPTS, jitter: float | None = None
) -> Decision:
    """`attempt` counts from 1; `jitter` in 0..1 replaces the random draw."""
    code = error.code if isinstance(error, JobsError) else "bug"
    if isinstance(error, PermanentError | ConfigError) or attempt >= max_attempts:
        return Decision(code, None)
    if isinstance(error, ConflictError):
        return Decision(code, 100)
    if isinstance(error, Parked):
        return Decision(code, _PARKED_MS)
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        return Decision(code, min(int(error.retry_after_s * 1000) + 50, _MAX_BACKOFF_MS * 12))
    return Decision(code, backoff_ms(attempt, jitter))


def backoff_ms(attempt: int, jitter: float | None = None) -> int:
    """2 s doubling per attempt, at most 5 min, spread over 50 to 100 % so that workers do not march in step."""
    spread = 0.5 + 0.5 * (random.random() if jitter is None else jitter)
    return int(min(_MAX_BACKOFF_MS, 2000 * 2 ** (attempt - 1)) * spread)
