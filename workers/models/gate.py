"""The gate in front of every request that leaves the process: each model of a fallback chain passes it by itself.

It asks the journal for admission (caps, the provider's limits) and waits on the loop, so a waiting call blocks no thread.
A request has `timeout_seconds` in all, from the connection to the last byte, and what it reserved is given back only where it
cost nothing for certain: it never left, or the provider refused it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_ai import exceptions as px
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from lerim_jobs.config import Price, Role, RoleName
from lerim_jobs.errors import JobsError
from lerim_jobs.providers import OFFLINE, ModelChoice
from workers.models.calls import Presumed
from workers.models.prices import bound_usd, input_bound
from workers.models.wire import departure

if TYPE_CHECKING:
    from workers.models.calls import Journal

__all__ = ["CallGate", "GatedModel", "current", "made_room"]

current: ContextVar[CallGate | None] = ContextVar("lerim_call_gate", default=None)
"""The gate of the call this task is making; set by the journal around it."""

_log = logging.getLogger(__name__)
_MARGIN_MS = 60_000
_KNOWN = (px.AgentRunError, px.UserError, JobsError, asyncio.CancelledError)


class CallGate:
    """One journaled call: what it has reserved, and what it has to pay for."""

    def __init__(
        self,
        journal: Journal,
        *,
        role: RoleName,
        settings: Role,
        prices: Mapping[str, Price],
        request_bytes: int,
        request: tuple[str, int],
    ) -> None:
        self._journal, self._role, self._settings, self._prices = journal, role, settings, prices
        self._tokens_in = input_bound(request_bytes)
        self._request = request
        self.held: list[str] = []
        self.billed: list[tuple[ModelChoice, ModelResponse]] = []
        """Every answer that came back, also one that a fallback replaced: providers charge for all of them."""
        self._wishes: dict[str, Mapping[str, Any]] = {}
        self.timeout_s = settings.timeout_seconds
        self.waited_s = 0.0

    async def enter(self, choice: ModelChoice) -> str | None:
        """Reserve for one request; None where nothing needs to be reserved. Raises Parked, ConflictError."""
        if choice.provider == OFFLINE:
            return None
        usd = bound_usd(choice, self._tokens_in, self._settings.max_output_tokens, self._prices)
        wish = {
            "role": self._role,
            "provider": choice.provider,
            "usd": usd,
            "tokens": self._tokens_in + self._settings.max_output_tokens,
            "hold_ms": int(self.timeout_s * 1000) + _MARGIN_MS,
        }
        begin = time.monotonic()
        # In turn: asking the store costs a transaction, so of those that wait in this process only the first asks.
        async with _turn(choice.provider):
            while not isinstance(admitted := await self._admit(wish), str):
                await _room(admitted * random.uniform(0.8, 1.2))
        self.waited_s += time.monotonic() - begin
        self.held.append(admitted)
        self._wishes[admitted] = wish
        return admitted

    async def _admit(self, wish: Mapping[str, object]) -> str | float:
        """A cancelled call must not leave behind what a thread was just reserving for it."""
        asking = asyncio.ensure_future(asyncio.to_thread(self._journal.admit, wish, *self._request))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if isinstance(admitted := await asking, str):
                await asyncio.to_thread(self._journal.give_back, [admitted])
            raise

    async def give_back(self, key: str) -> None:
        """Give a reservation back after a request that cost nothing."""
        self.held.remove(key)
        await asyncio.to_thread(self._journal.give_back, [key])
        made_room()

    async def presume(self, key: str, choice: ModelChoice, error: BaseException) -> None:
        """Book a request that left, and of which nobody will say what it cost, with all that was reserved for it."""
        self.held.remove(key)
        wish = self._wishes[key]
        bill = Presumed(
            self._role, choice.model, choice.provider, type(error).__name__, usd=wish["usd"], tokens=wish["tokens"]
        )
        try:
            # Also when this task is being cancelled.
            await asyncio.shield(asyncio.to_thread(self._journal.presume, bill, [key]))
        except JobsError as exc:
            _log.warning("could not book a request of unknown cost, it stays reserved until it must be over: %s", exc)
        made_room()


@lru_cache(maxsize=256)
def _turn_of(provider: str, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
    return asyncio.Lock()


def _turn(provider: str) -> asyncio.Lock:
    return _turn_of(provider, asyncio.get_running_loop())


@lru_cache(maxsize=4)
def _freed(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    return asyncio.Event()


async def _room(at_most_s: float) -> None:
    """Until a call of this process has ended, or for so long: other processes end theirs unseen."""
    event = _freed(asyncio.get_running_loop())
    event.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), at_most_s)


def made_room() -> None:
    """Tell who waits in this process that a reservation was given back or settled."""
    _freed(asyncio.get_running_loop()).set()


class GatedModel(WrapperModel):
    """One provider's model behind the gate of the call it is used in."""

    def __init__(self, wrapped: Model, choice: ModelChoice) -> None:
        super().__init__(wrapped)
        self._choice = choice

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        gate = current.get()
        if gate is None:
            raise RuntimeError("a model call outside the journal would not be counted")
        key = await gate.enter(self._choice)
        with departure() as request:
            try:
                async with self._deadline(gate.timeout_s):
                    response = await self.wrapped.request(messages, model_settings, model_request_parameters)
            except (Exception, asyncio.CancelledError) as exc:
                if key is None:
                    raise
                if request.left and not isinstance(exc, px.ModelHTTPError):
                    await gate.presume(key, self._choice, exc)
                else:
                    await gate.give_back(key)
                if isinstance(exc, _KNOWN):
                    raise
                # A body the client cannot read ends in whatever error its code runs into.
                raise px.UnexpectedModelBehavior(f"{type(exc).__name__} while reading the answer") from None
        gate.billed.append((self._choice, response))
        if response.finish_reason == "content_filter":
            raise px.ContentFilterError("the model refused to answer")
        return response

    @asynccontextmanager
    async def _deadline(self, timeout_s: float) -> AsyncIterator[None]:
        """Over everything: the client's own limits are for each read, which a provider that pads its answer never meets."""
        try:
            async with asyncio.timeout(timeout_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise px.ModelRequestTimeout(self._choice.model, timeout_s) from None
