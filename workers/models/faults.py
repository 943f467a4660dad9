"""What a failing model means for the stage: provider errors become errors of our own tree, without any content.

401, 403                                     WrongKey          gives up, nothing falls back
429                                          RateLimited       waits as long as the provider says
quota used up                                ModelUnavailable
time-out, 5xx, reset, broken or wrong body   ModelUnavailable
context overflow, refusal, 400, 404          ModelRefused      gives up
"""

from __future__ import annotations

from pydantic_ai import exceptions as px

from lerim_jobs.errors import JobsError, ModelRefused, ModelUnavailable, RateLimited, WrongKey

__all__ = ["explained", "failed_models", "worth_falling_back"]

_REFUSALS = (
    px.ModelContextWindowExceededError,
    px.ModelNotFoundError,
    px.ModelRequestRejectedError,
    px.ContentFilterError,
)


def worth_falling_back(error: Exception) -> bool:
    """Another model may do better; a wrong key must show instead."""
    return isinstance(error, px.ModelAPIError | px.UnexpectedModelBehavior) and not isinstance(
        error, px.ModelAuthenticationError
    )


def explained(error: BaseException, *, role: str) -> JobsError:
    """Our error for a failed call. The message names role, model, kind and status; never a body, prompt or key."""
    if isinstance(error, px.FallbackExceptionGroup):
        return _worst([explained(one, role=role) for one in error.exceptions])
    what = f"role {role}: {_model_of(error)}{type(error).__name__}{_status(error)}"
    if isinstance(error, px.ModelAuthenticationError) or getattr(error, "status_code", None) == 403:
        return WrongKey(f"{what}: the provider rejected the API key")
    if isinstance(error, px.ModelQuotaExceededError):
        return ModelUnavailable(f"{what}: the account's quota is used up")
    if isinstance(error, px.ModelRateLimitError):
        wish = getattr(error, "retry_after", None)
        return RateLimited(f"{what}: too many requests", retry_after_s=float(wish) if wish is not None else None)
    if isinstance(error, _REFUSALS):
        return ModelRefused(what)
    return ModelUnavailable(what)


def failed_models(error: BaseException) -> list[dict[str, str]]:
    """The models that were tried, as `{"model", "error_type"}`."""
    errors = error.exceptions if isinstance(error, px.FallbackExceptionGroup) else (error,)
    return [{"model": getattr(one, "model_name", ""), "error_type": type(one).__name__} for one in errors]


def _worst(errors: list[JobsError]) -> JobsError:
    """Of all fallbacks' errors the one that decides: a wrong key first, then what can still get better."""
    for kind in (WrongKey, RateLimited, ModelUnavailable):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[-1]


def _model_of(error: BaseException) -> str:
    name = getattr(error, "model_name", "")
    return f"{name}: " if name else ""


def _status(error: BaseException) -> str:
    status = getattr(error, "status_code", None)
    return f" (HTTP {status})" if status else ""
