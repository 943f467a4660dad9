"""The error tree: every error raised on purpose, and the process exit codes.

    JobsError                 raised on purpose; has a stable `code` and an exit code
      RetryableError          worth another attempt later
        ModelUnavailable  RateLimited  StoreUnavailable  QueueUnavailable
      PermanentError          another attempt would end the same way
        BadInput  BadTranscript  ModelRefused  ContextOverflow  ModelMissing  WrongKey  BadEvent
        CorruptLog  UnreadableEvent
      ClaimLost               the stage belongs to another attempt now, or its job was cancelled: stop, keep nothing
      Parked                  over budget: not a failure, resumes later
      ConflictError           the log moved: reload, decide again
        AlreadyAnswered
      ConfigError             stop now, before taking work
      WaitTimeout             the command stopped waiting; the job goes on

`jobs/retry.py` alone decides what an error means for a stage. Messages never carry prompts, answers, keys or passwords.
"""

from __future__ import annotations

__all__ = [
    "AlreadyAnswered",
    "BadEvent",
    "BadInput",
    "BadTranscript",
    "ClaimLost",
    "ConfigError",
    "ConflictError",
    "ContextOverflow",
    "CorruptLog",
    "JobsError",
    "ModelMissing",
    "ModelRefused",
    "ModelUnavailable",
    "Parked",
    "PermanentError",
    "QueueUnavailable",
    "RateLimited",
    "RetryableError",
    "StoreUnavailable",
    "UnreadableEvent",
    "WaitTimeout",
    "WrongKey",
]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_UNREACHABLE = 4
EXIT_TIMEOUT = 5
EXIT_PARKED = 6
EXIT_INTERRUPTED = 130


class JobsError(Exception):
    """An error raised on purpose. `code` is stable and safe to log; the message says what to do next."""

    code = "error"
    exit_code = EXIT_FAILED


class RetryableError(JobsError):
    """Another attempt may succeed."""

    code = "retryable"


class ModelUnavailable(RetryableError):
    """No configured model gave a usable answer: time-out, server error, broken or wrong-shaped answer."""

    code = "model_unavailable"


class RateLimited(RetryableError):
    """A provider asked us to slow down; `retry_after_s` is its own wish in seconds, or None."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(RetryableError):
    """The event log cannot be opened or written."""

    code = "store_unavailable"
    exit_code = EXIT_UNREACHABLE


class QueueUnavailable(RetryableError):
    """Redis cannot be reached or started."""

    code = "queue_unavailable"
    exit_code = EXIT_UNREACHABLE


class PermanentError(JobsError):
    """Another attempt would end the same way."""

    code = "permanent"


class BadInput(PermanentError):
    """The user named something that does not exist or does not fit."""

    code = "bad_input"
    exit_code = EXIT_USAGE


class BadTranscript(PermanentError):
    """A stored transcript cannot be used."""

    code = "bad_transcript"


class ModelRefused(PermanentError):
    """The model refused the request, or the request can never fit it."""

    code = "model_refused"


class ContextOverflow(ModelRefused):
    """The request is longer than the model's context: smaller windows may fit."""

    code = "context_overflow"


class ModelMissing(PermanentError):
    """The provider knows no model of that name (404): the settings need mending."""

    code = "model_missing"


class WrongKey(PermanentError):
    """A provider rejected the API key (401 or 403): nothing falls back silently on this."""

    code = "wrong_key"


class CorruptLog(PermanentError):
    """What is stored cannot be read."""

    code = "corrupt_log"


class UnreadableEvent(CorruptLog):
    """A stored event is not of the shape that its type says."""

    code = "unreadable_event"


class BadEvent(PermanentError):
    """An event is of another shape than its type says: a mistake in the code that made it. Nothing was written."""

    code = "bad_event"


class Parked(JobsError):
    """Work was put aside, for example over a budget; it resumes by itself.

    `waits_for` is the call that needs room under a cap, as `jobs/caps.py` wrote it: it goes on when there is some. Without it
    the stage is tried again in `retry_in_ms`.
    """

    code = "parked"
    exit_code = EXIT_PARKED

    def __init__(self, message: str, *, retry_in_ms: int = 3_600_000, waits_for: bytes | None = None) -> None:
        super().__init__(message)
        self.retry_in_ms, self.waits_for = retry_in_ms, waits_for


class ClaimLost(JobsError):
    """The stage is not this attempt's any more: whatever it still does is dropped."""

    code = "claim_lost"


class ConflictError(JobsError):
    """The log moved since it was read: reload and decide again."""

    code = "conflict"


class AlreadyAnswered(ConflictError):
    """Another attempt has just recorded the answer to this very request: replay it instead of asking again."""


class ConfigError(JobsError):
    """A configuration or environment problem that must be mended before any work starts."""

    code = "config"
    exit_code = EXIT_USAGE


class WaitTimeout(JobsError):
    """The command stopped waiting for the job `job_id`, which goes on in the background."""

    code = "wait_timeout"
    exit_code = EXIT_TIMEOUT

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id
