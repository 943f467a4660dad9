"""Pay once: every answer is stored under its request before it is used, and replayed for free.

The key is the request itself (a hash of messages, settings and tools) and how often this attempt has made it before, so a
different request can never get an old answer.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from typing import Any, Protocol

import msgspec
from opentelemetry import trace
from pydantic import TypeAdapter
from pydantic_ai import exceptions as px
from pydantic_ai.durable_exec import record_durable_unit
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from lerim_jobs.config import RoleName
from workers.models.faults import explained, failed_models
from workers.models.prices import cost_usd

__all__ = ["CallFailed", "Called", "Journal", "JournalModel", "request_hash"]

_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)
_VOLATILE = {"timestamp", "run_id", "conversation_id", "metadata", "history_digest", "provider_response_id", "usage"}
_NO_PART_OF_THE_REQUEST = {"timeout", "max_retries"}


class Called(msgspec.Struct, frozen=True):
    """An answered call. Tokens as the provider counted them; `cost_usd` None: the price is unknown."""

    role: str
    request_hash: str
    occurrence: int
    model_asked: str
    model: str
    provider: str
    tokens_in: int
    tokens_out: int
    duration_ms: int
    cache_read_tokens: int = 0
    cost_usd: float | None = None
    failed: list[dict[str, str]] = []


class CallFailed(msgspec.Struct, frozen=True):
    """A call that no model answered."""

    role: str
    model_asked: str
    error_type: str
    duration_ms: int
    failed: list[dict[str, str]] = []


class Journal(Protocol):
    """Where answers are kept."""

    def find(self, request_hash: str, occurrence: int) -> bytes | None:
        """The stored answer to exactly this request, or None."""
        ...

    def record(self, call: Called, answer: bytes) -> None:
        """Store an answer; when this returns it survives a crash."""
        ...

    def failed(self, call: CallFailed) -> None:
        """Note a call without an answer."""
        ...


class JournalModel(WrapperModel):
    """A model, fallbacks included, whose answers go through the journal. Raises only errors of our own tree."""

    def __init__(self, wrapped: Model, *, role: RoleName, asked: str, journal: Journal) -> None:
        super().__init__(wrapped)
        self._role, self._asked, self._journal = role, asked, journal
        self._seen: Counter[str] = Counter()
        self.calls = 0
        self.replayed = 0
        self.answered_by: str | None = None

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        key = request_hash(messages, model_settings, model_request_parameters)
        occurrence = self._seen[key]
        self._seen[key] += 1
        if stored := self._journal.find(key, occurrence):
            return self._replay(stored)
        begin = time.monotonic()
        try:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        except (px.AgentRunError, px.FallbackExceptionGroup) as exc:
            error = explained(exc, role=self._role)
            failed = failed_models(exc)
            self._journal.failed(CallFailed(self._role, self._asked, type(error).__name__, _ms_since(begin), failed))
            raise error from None
        call = self._called(key, occurrence, response, _ms_since(begin))
        self._journal.record(call, _RESPONSE.dump_json(response))
        self.calls += 1
        self.answered_by = call.model
        record_durable_unit(executed=True)
        return response

    def _replay(self, stored: bytes) -> ModelResponse:
        response = _RESPONSE.validate_json(stored)
        self.replayed += 1
        self.answered_by = response.model_name
        trace.get_current_span().add_event("lerim.replayed", {"gen_ai.response.model": response.model_name or ""})
        record_durable_unit(executed=False)
        return response

    def _called(self, key: str, occurrence: int, response: ModelResponse, duration_ms: int) -> Called:
        usage = response.usage
        return Called(
            role=self._role,
            request_hash=key,
            occurrence=occurrence,
            model_asked=self._asked,
            model=response.model_name or self._asked,
            provider=response.provider_name or "",
            tokens_in=usage.input_tokens,
            tokens_out=usage.output_tokens,
            duration_ms=duration_ms,
            cache_read_tokens=usage.cache_read_tokens,
            cost_usd=cost_usd(response),
            failed=[
                {"model": attempt.model_name, "error_type": (attempt.error or "rejected").partition(":")[0]}
                for attempt in response.failed_attempts or ()
            ],
        )


def request_hash(
    messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
) -> str:
    """Equal for the same request in another attempt or process: times, run ids and call ids do not count."""
    body = {
        "messages": _normal(json.loads(ModelMessagesTypeAdapter.dump_json(messages)), {}),
        "settings": {key: value for key, value in (settings or {}).items() if key not in _NO_PART_OF_THE_REQUEST},
        "tools": [(tool.name, tool.parameters_json_schema) for tool in parameters.function_tools],
        "outputs": [(tool.name, tool.parameters_json_schema) for tool in parameters.output_tools],
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _normal(value: Any, calls: dict[str, int]) -> Any:
    """Without what differs between two runs of the same stage; call ids become their order of appearance."""
    if isinstance(value, dict):
        return {
            key: calls.setdefault(part, len(calls)) if key == "tool_call_id" else _normal(part, calls)
            for key, part in value.items()
            if key not in _VOLATILE
        }
    if isinstance(value, list):
        return [_normal(part, calls) for part in value]
    return value


def _ms_since(begin: float) -> int:
    return round((time.monotonic() - begin) * 1000)
