"""What a failing model means for the stage: provider errors become errors of our own tree, without any content.

401, 403                                     WrongKey          gives up, nothing falls back
429                                          RateLimited       waits as long as the provider says
quota used up                                Parked            looked at again every hour
time-out, 5xx, reset, broken or wrong body   ModelUnavailable  retried with back-off
context overflow                             ContextOverflow   smaller windows
404                                          ModelMissing      gives up
refusal, 400                                 ModelRefused      gives up

`docs/models.md` has the whole table, with what falls back; a test runs each of its rows.
"""

from __future__ import annotations

from pydantic_ai import exceptions as px

from lerim_jobs.errors import (
    ContextOverflow,
    JobsError,
    ModelMissing,
    ModelRefused,
    ModelUnavailable,
    Parked,
    RateLimited,
    WrongKey,
)

__all__ = ["explained", "failed_models", "is_ours", "worth_falling_back"]

_REFUSALS = (px.ModelRequestRejectedError, px.ContentFilterError)
_QUOTA_LOOK_MS = 3_600_000


def worth_falling_back(error: Exception) -> bool:
    """Another model may do better; a wrong key must show instead."""
    return isinstance(error, px.ModelAPIError | px.UnexpectedModelBehavior) and not _is_key_problem(error)


def explained(error: BaseException, *, role: str) -> JobsError:
    """Our error for a failed call. The message names role, model, kind and status; never a body, prompt or key."""
    if isinstance(error, px.FallbackExceptionGroup):
        return _worst([explained(one, role=role) for one in error.exceptions])
    what = f"role {role}: {_model_of(error)}{type(error).__name__}{_status(error)}"
    if _is_key_problem(error):
        return WrongKey(f"{what}: the provider rejected the API key")
    if isinstance(error, px.ModelQuotaExceededError):
        return Parked(f"{what}: the account's quota is used up; tried again every hour", retry_in_ms=_QUOTA_LOOK_MS)
    if isinstance(error, px.ModelRateLimitError):
        wish = getattr(error, "retry_after", None)
        return RateLimited(f"{what}: too many requests", retry_after_s=float(wish) if wish is not None else None)
    if isinstance(error, px.ModelContextWindowExceededError):
        return ContextOverflow(f"{what}: the request is longer than the model's context")
    if isinstance(error, px.ModelNotFoundError):
        return ModelMissing(f"{what}: the provider knows no such model; `lerim models` shows what is configured")
    if isinstance(error, _REFUSALS):
        return ModelRefused(what)
    if isinstance(error, px.ModelTimeoutError | px.ModelRequestTimeout):
        return ModelUnavailable(f"{what}: the whole answer did not come in time (timeout_seconds)")
    if isinstance(error, px.ModelConnectionError):
        return ModelUnavailable(f"{what}: the provider cannot be reached; is the network there, is the address right?")
    return ModelUnavailable(what)


def is_ours(error: BaseException) -> JobsError | None:
    """An error of our own tree that came out through the library's wrapping."""
    if isinstance(error, px.FallbackExceptionGroup):
        return next((one for one in error.exceptions if isinstance(one, JobsError)), None)
    return None


def failed_models(error: BaseException) -> list[dict[str, str]]:
    """The models that were tried, as `{"model", "error_type"}`."""
    errors = error.exceptions if isinstance(error, px.FallbackExceptionGroup) else (error,)
    return [{"model": getattr(one, "model_name", ""), "error_type": type(one).__name__} for one in errors]


def _worst(errors: list[JobsError]) -> JobsError:
    """Of all fallbacks' errors the one that decides: a wrong key first, then what can still get better."""
    for kind in (WrongKey, RateLimited, ModelUnavailable, Parked, ContextOverflow):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[-1]


def _is_key_problem(error: BaseException) -> bool:
    return isinstance(error, px.ModelAuthenticationError) or getattr(error, "status_code", None) == 403


def _model_of(error: BaseException) -> str:
    name = getattr(error, "model_name", "")
    return f"{name}: " if name else ""


def _status(error: BaseException) -> str:
    status = getattr(error, "status_code", None)
    return f" (HTTP {status})" if status else ""
