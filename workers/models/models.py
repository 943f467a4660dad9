"""What one attempt of a stage may use of the models: its roles, each with journal, limits and instrumentation."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from opentelemetry import trace
from pydantic_ai.direct import model_request
from pydantic_ai.durable_exec import replay_scope
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.usage import UsageLimits

from lerim_jobs.config import RoleName, Settings
from lerim_jobs.errors import ModelRefused
from lerim_jobs.providers import check_models
from workers.models import loop
from workers.models.calls import Journal
from workers.models.journal import JournalModel
from workers.models.roles import build

__all__ = ["Models"]

T = TypeVar("T")


class Models:
    """Built anew for each attempt, so that request occurrences count from 0 in every attempt."""

    def __init__(self, *, settings: Settings, env: Mapping[str, str], journal: Journal, include_content: bool) -> None:
        self.settings, self.include_content = settings, include_content
        self._env, self._journal = env, journal
        self._choices = check_models(settings, env)
        self._models: dict[RoleName, JournalModel] = {}
        self.instrument = InstrumentationSettings(
            tracer_provider=trace.get_tracer_provider(), include_content=include_content
        )

    def model(self, role: RoleName) -> JournalModel:
        """The role's model with its fallbacks, behind the journal."""
        if role not in self._models:
            choice = self._choices[role]
            settings = self.settings.roles.get(role)
            self._models[role] = JournalModel(
                build(choice, settings, env=self._env),
                role=role,
                asked=choice.model,
                settings=settings,
                prices=self.settings.prices,
                journal=self._journal,
            )
        return self._models[role]

    def limits(self, role: RoleName) -> UsageLimits:
        """At most the role's `max_iterations` requests in one run."""
        return UsageLimits(request_limit=self.settings.roles.get(role).max_iterations)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], *, role: RoleName) -> T:
        """Run agent work on the loop. Raises ModelUnavailable, or ModelRefused for what the agent could not do: its answers
        are in the journal, so another attempt would only read them again.
        """
        try:
            return loop.run(self._scoped(work))
        except UsageLimitExceeded:
            limit = self.settings.roles.get(role).max_iterations
            raise ModelRefused(f"role {role}: not done after {limit} model calls (max_iterations)") from None
        except UnexpectedModelBehavior as exc:
            raise ModelRefused(
                f"role {role}: no usable answer after several corrections ({type(exc).__name__})"
            ) from None

    def ping(self, role: RoleName) -> dict[str, Any]:
        """One small call; who answered, its tokens and ms, and the models that failed before. Raises as `run` does."""
        begin = time.monotonic()
        request = ModelRequest(parts=[UserPromptPart("Answer with the one word: ready")])
        response = self.run(
            lambda: model_request(
                self.model(role),
                [request],
                model_request_parameters=ModelRequestParameters(),
                instrument=self.instrument,
            ),
            role=role,
        )
        failed = [
            (one.model_name, (one.error or "rejected").partition(":")[0]) for one in response.failed_attempts or ()
        ]
        return {
            "asked": self._choices[role].model.model,
            "model": self.answered_by(role),
            "tokens_in": response.usage.input_tokens,
            "tokens_out": response.usage.output_tokens,
            "duration_ms": round((time.monotonic() - begin) * 1000),
            "failed": [{"model": model, "error_type": error} for model, error in failed],
        }

    def answered_by(self, role: RoleName) -> str | None:
        """The model that answered the role's last call, None when it was not called."""
        model = self._models.get(role)
        return model.answered_by if model else None

    @property
    def calls(self) -> int:
        """Calls that were made and paid for in this attempt."""
        return sum(model.calls for model in self._models.values())

    @property
    def replayed(self) -> int:
        """Calls that were answered from the journal."""
        return sum(model.replayed for model in self._models.values())

    async def _scoped(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with replay_scope():
            return await work()
