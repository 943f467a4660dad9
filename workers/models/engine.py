"""DSPy on the one provider stack: it writes prompts and parses answers, its calls go through our models and the journal.

litellm is never imported; DSPy's own retries, caches and histories are off; nothing falls back to a second, hidden call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dspy
from dspy import lm15
from dspy.utils.callback import BaseCallback
from opentelemetry import context as otel_context
from opentelemetry import trace
from pydantic_ai import messages as pm
from pydantic_ai.direct import model_request
from pydantic_ai.models import ModelRequestParameters

from lerim_jobs.tracing.content import record_error
from workers.models import loop

if TYPE_CHECKING:
    from lerim_jobs.config import RoleName
    from workers.models.models import Models

__all__ = ["predictor_context"]

_FINISH = {"stop": "stop", "length": "length", "content_filter": "content_filter", "tool_call": "tool_call"}


class _Engine:
    """What `dspy.LM(engine=…)` calls: text in, text out, on the model loop of this process."""

    def __init__(self, models: Models, role: RoleName) -> None:
        self._models, self._role = models, role

    def complete(self, request: Any) -> Any:
        """One request; raises the errors of our own tree."""
        return _response(loop.run(self._call(request)))

    def close(self) -> None:
        """Nothing to close: clients belong to the process."""

    async def _call(self, request: Any) -> pm.ModelResponse:
        config = request.config
        given = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        return await model_request(
            self._models.model(self._role),
            _messages(request),
            model_settings={key: value for key, value in given.items() if value is not None} or None,  # type: ignore[arg-type]  # a TypedDict built from names
            model_request_parameters=ModelRequestParameters(),
            instrument=self._models.instrument,
        )


class _ModuleSpans(BaseCallback):  # type: ignore[misc]  # dspy has no types
    """One span per DSPy module, so that its model call shows below the pipeline step that made it."""

    def __init__(self, include_content: bool) -> None:
        self._include_content = include_content
        self._open: dict[str, tuple[trace.Span, Any]] = {}

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        name = f"{type(instance).__name__} {_signature_of(instance)}".strip()
        span = trace.get_tracer("lerim_jobs").start_span(name)
        self._open[call_id] = (span, otel_context.attach(trace.set_span_in_context(span)))

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        span, token = self._open.pop(call_id)
        otel_context.detach(token)
        if exception is not None:
            record_error(span, exception, self._include_content)
        span.end()


@contextmanager
def predictor_context(models: Models, role: RoleName) -> Iterator[None]:
    """Make `role` the model of every DSPy module called inside; safe in any thread."""
    lm = dspy.LM(f"lerim/{role}", engine=_Engine(models, role), num_retries=0, cache=False)
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    spans = _ModuleSpans(models.include_content)
    with dspy.context(lm=lm, adapter=adapter, callbacks=[spans], disable_history=True):
        yield


def _signature_of(instance: Any) -> str:
    name: str = getattr(getattr(instance, "signature", None), "__name__", "")
    return name


def _messages(request: Any) -> list[pm.ModelMessage]:
    """The request's texts; anything but text is refused, our pipelines have none."""
    system = request.system if isinstance(request.system, str | None) else "".join(part.text for part in request.system)
    out: list[pm.ModelMessage] = []
    parts: list[pm.ModelRequestPart] = [pm.SystemPromptPart(system)] if system else []
    for message in request.messages:
        text = "".join(part.text for part in message.parts)
        if message.role == "assistant":
            out += [pm.ModelRequest(parts=parts), pm.ModelResponse(parts=[pm.TextPart(text)])]
            parts = []
        elif message.role in ("system", "developer"):
            parts.append(pm.SystemPromptPart(text))
        else:
            parts.append(pm.UserPromptPart(text))
    return [*out, pm.ModelRequest(parts=parts)] if parts else out


def _response(answer: pm.ModelResponse) -> Any:
    usage = answer.usage
    return lm15.Response(
        id=answer.provider_response_id,
        model=answer.model_name or "unknown",
        finish_reason=_FINISH.get(answer.finish_reason or "stop", "stop"),
        message=lm15.Message.assistant([lm15.TextPart(answer.text or "")]),
        usage=lm15.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.input_tokens + usage.output_tokens,
        ),
    )
