"""Pay once: every answer is stored under its request before it is used, and replayed for free.

The key is the request itself (a hash of messages, settings and tools) and how often this attempt has made it before, so a
different request can never get an old answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import exceptions as px
from pydantic_ai.durable_exec import record_durable_unit
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from lerim_jobs.config import Price, Role, RoleName
from lerim_jobs.errors import AlreadyAnswered, JobsError
from lerim_jobs.providers import ModelChoice
from workers.models import gate, spans
from workers.models.calls import Called, CallFailed, Journal
from workers.models.gate import CallGate
from workers.models.prices import cost_usd
from workers.models.provider_errors import explained, failed_models, is_ours

__all__ = ["JournalModel", "request_hash"]

_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)
_VOLATILE = {"timestamp", "run_id", "conversation_id", "metadata", "history_digest", "provider_response_id", "usage"}
_NO_PART_OF_THE_REQUEST = {"timeout", "max_retries"}


class JournalModel(WrapperModel):
    """A model, fallbacks included, whose answers go through the journal. Raises only errors of our own tree."""

    def __init__(
        self,
        wrapped: Model,
        *,
        role: RoleName,
        asked: ModelChoice,
        settings: Role,
        prices: Mapping[str, Price],
        journal: Journal,
    ) -> None:
        super().__init__(wrapped)
        self._role, self._asked, self._journal = role, asked, journal
        self._limits, self._prices = settings, prices
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
        body = _canonical(messages, model_settings, model_request_parameters)
        key = _hash(body)
        occurrence = self._seen[key]
        self._seen[key] += 1
        if stored := self._journal.find(key, occurrence):
            return self._replay(stored)
        begin = time.monotonic()
        call_gate = CallGate(
            self._journal,
            role=self._role,
            settings=self._limits,
            prices=self._prices,
            request_bytes=len(body),
            request=(key, occurrence),
        )
        try:
            response = await self._ask(call_gate, begin, messages, model_settings, model_request_parameters)
        except AlreadyAnswered:
            if stored := self._journal.find(key, occurrence):
                return self._replay(stored)
            raise
        call = self._called(key, occurrence, response, call_gate.billed, begin + call_gate.waited_s)
        # Off the loop: the other calls of this process go on while the answer reaches the disk, as it does if this task ends.
        done = asyncio.to_thread(self._journal.record, call, _RESPONSE.dump_json(response), call_gate.held)
        await asyncio.shield(done)
        gate.made_room()
        self.calls += 1
        self.answered_by = call.model
        spans.answered(call)
        record_durable_unit(executed=True)
        return response

    async def _ask(
        self,
        call_gate: CallGate,
        begin: float,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelResponse:
        token = gate.current.set(call_gate)
        try:
            return await self.wrapped.request(messages, model_settings, parameters)
        except (px.AgentRunError, px.FallbackExceptionGroup) as exc:
            ours = is_ours(exc)
            error = ours or explained(exc, role=self._role)
            if not ours or call_gate.billed:
                await self._failed(call_gate, begin, error, failed_models(exc))
            raise error from None
        except (JobsError, asyncio.CancelledError) as exc:
            if call_gate.billed:
                await self._failed(call_gate, begin, exc, [])
            raise
        finally:
            gate.current.reset(token)

    async def _failed(
        self, call_gate: CallGate, begin: float, error: BaseException, failed: list[dict[str, str]]
    ) -> None:
        """Note a call without an answer, and what answers cost that were of no use."""
        bill = _bill(call_gate.billed, self._prices)
        asked_ms = _ms_since(begin + call_gate.waited_s)
        call = CallFailed(self._role, self._asked.model, type(error).__name__, asked_ms, failed, *bill)
        spans.failed(call)
        await asyncio.shield(asyncio.to_thread(self._journal.failed, call, call_gate.held))
        gate.made_room()

    def _replay(self, stored: bytes) -> ModelResponse:
        response = _RESPONSE.validate_json(stored)
        self.replayed += 1
        self.answered_by = response.model_name
        record_durable_unit(executed=False)
        return response

    def _called(
        self,
        key: str,
        occurrence: int,
        response: ModelResponse,
        billed: Sequence[tuple[ModelChoice, ModelResponse]],
        begin: float,
    ) -> Called:
        answered = billed[-1][0]
        tokens_in, tokens_out, cost = _bill(billed, self._prices)
        return Called(
            role=self._role,
            request_hash=key,
            occurrence=occurrence,
            model_asked=self._asked.model,
            model=response.model_name or answered.model,
            provider=answered.provider,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            duration_ms=_ms_since(begin),
            cache_read_tokens=response.usage.cache_read_tokens,
            cost_usd=cost,
            failed=[
                {"model": attempt.model_name, "error_type": (attempt.error or "rejected").partition(":")[0]}
                for attempt in response.failed_attempts or ()
            ],
        )


def request_hash(
    messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
) -> str:
    """Equal for the same request in another attempt or process: times, run ids and call ids do not count."""
    return _hash(_canonical(messages, settings, parameters))


def _bill(
    billed: Sequence[tuple[ModelChoice, ModelResponse]], prices: Mapping[str, Price]
) -> tuple[int, int, float | None]:
    """Tokens in, tokens out and dollars of all answers; no dollars when one of their prices is unknown."""
    costs = [cost_usd(response, choice, prices) for choice, response in billed]
    known = [cost for cost in costs if cost is not None]
    return (
        sum(response.usage.input_tokens for _, response in billed),
        sum(response.usage.output_tokens for _, response in billed),
        sum(known) if billed and len(known) == len(costs) else None,
    )


def _canonical(
    messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
) -> bytes:
    body = {
        "messages": _normal(json.loads(ModelMessagesTypeAdapter.dump_json(messages)), {}),
        "settings": {key: value for key, value in (settings or {}).items() if key not in _NO_PART_OF_THE_REQUEST},
        "tools": [(tool.name, tool.parameters_json_schema) for tool in parameters.function_tools],
        "outputs": [(tool.name, tool.parameters_json_schema) for tool in parameters.output_tools],
    }
    return json.dumps(body, sort_keys=True, default=str, ensure_ascii=False).encode()


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


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
