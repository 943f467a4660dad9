"""What the span of a model call says besides what pydantic-ai puts there: role, bill, fallbacks.

An answer replayed from the journal makes no span: its call has one already, below the attempt that made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import baggage, context, trace

from lerim_jobs.tracing import names

if TYPE_CHECKING:
    from lerim_jobs.config import RoleName
    from workers.models.calls import Called, CallFailed

__all__ = ["acting_as", "answered", "failed"]


@contextmanager
def acting_as(role: RoleName) -> Iterator[None]:
    """Spans started inside are the role's, also where another role's stage asked for it."""
    token = context.attach(baggage.set_baggage(names.ROLE, role))
    try:
        yield
    finally:
        context.detach(token)


def answered(call: Called) -> None:
    """Describe an answered call on the current span."""
    span = trace.get_current_span()
    span.set_attributes(
        {
            names.ROLE: call.role,
            names.CALL_TOKENS_IN: call.tokens_in,
            names.CALL_TOKENS_OUT: call.tokens_out,
            names.CALL_COST: "unknown" if call.cost_usd is None else call.cost_usd,
        }
    )
    _fell_back(span, call.failed, to=call.model)
    if call.occurrence:
        span.add_event("lerim.asked_again", {"lerim.occurrence": call.occurrence})


def failed(call: CallFailed) -> None:
    """Describe a call nobody answered on the current span; what refused answers cost is part of the bill."""
    span = trace.get_current_span()
    span.set_attribute(names.ROLE, call.role)
    if call.tokens_in or call.tokens_out:
        span.set_attributes({names.USAGE_IN: call.tokens_in, names.USAGE_OUT: call.tokens_out})
        span.set_attribute(names.CALL_COST, "unknown" if call.cost_usd is None else call.cost_usd)
    _fell_back(span, call.failed[:-1], to=call.failed[-1]["model"] if call.failed else "")


def _fell_back(span: trace.Span, failed_models: Sequence[dict[str, str]], *, to: str) -> None:
    """One event for each model that was left for the next one."""
    following = [*(one["model"] for one in failed_models[1:]), to]
    for one, following_model in zip(failed_models, following, strict=False):
        about = {"lerim.from": one["model"], names.ERROR_TYPE: one["error_type"], "lerim.to": following_model}
        span.add_event(names.FALLBACK, about)
