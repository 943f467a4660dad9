"""What can be set, as frozen values with their defaults and bounds; `config.py` reads them from files and the environment."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "ROLES",
    "Agent",
    "AgentSetting",
    "Budget",
    "Decay",
    "Memory",
    "Price",
    "Provider",
    "Queue",
    "Retention",
    "Role",
    "RoleName",
    "Roles",
    "Schedule",
    "Search",
    "Settings",
    "Tracing",
]

RoleName = Literal["lead", "explorer", "extract", "summarize"]
ROLES: tuple[RoleName, ...] = ("lead", "explorer", "extract", "summarize")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the settings file."""


class Role(Section, frozen=True):
    """One model role. `fallback_models` entries are `model` or `provider:model`, tried in order.

    Times are seconds, windows are tokens (about 3.5 characters each). Empty provider: see `providers.py`. `thinking` is off,
    on or an effort; unset leaves the model's own default. `max_output_tokens` is sent with every request: it bounds what
    a single call can cost.
    """

    provider: str = ""
    model: str = ""
    api_base: str = ""
    fallback_models: tuple[str, ...] = ()
    timeout_seconds: float = 180.0
    max_iterations: int = 10
    max_window_tokens: int = 32_000
    window_overlap_tokens: int = 1_000
    max_output_tokens: int = 16_000
    thinking: bool | Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    openrouter_provider_order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.timeout_seconds <= 0:
            raise ValueError("timeout_seconds must be above 0")
        if self.max_iterations < 1:
            raise ValueError("max_iterations must be at least 1")
        if self.max_output_tokens < 16:
            raise ValueError("max_output_tokens must be at least 16")
        if self.max_window_tokens < 200:
            raise ValueError("max_window_tokens must be at least 200")
        if not 0 <= self.window_overlap_tokens < self.max_window_tokens:
            raise ValueError("window_overlap_tokens must be at least 0 and below max_window_tokens")


class Roles(Section, frozen=True):
    """The four model roles."""

    lead: Role = Role()
    explorer: Role = Role()
    extract: Role = Role()
    summarize: Role = Role()

    def get(self, name: RoleName) -> Role:
        """The role by its name."""
        role: Role = getattr(self, name)
        return role


class Provider(Section, frozen=True):
    """A provider's address where it differs from the usual one, and what all workers together may ask of it.

    0 sets no limit; the slots of the workers then are one.
    """

    api_base: str = ""
    max_concurrency: int = 0
    requests_per_minute: int = 0


class Price(Section, frozen=True):
    """US dollars for a million tokens of one model, where the bundled table is wrong or silent."""

    input_per_million: float
    output_per_million: float
    cache_read_per_million: float | None = None

    def cost(self, tokens_in: int, tokens_out: int, cache_read_tokens: int = 0) -> float:
        """Dollars for one call; `cache_read_tokens` are part of `tokens_in`."""
        cached = self.input_per_million if self.cache_read_per_million is None else self.cache_read_per_million
        fresh = tokens_in - cache_read_tokens
        total = fresh * self.input_per_million + cache_read_tokens * cached + tokens_out * self.output_per_million
        return total / 1_000_000


class Budget(Section, frozen=True):
    """Caps on what models may cost; a job that would pass one parks. Days are UTC days, `inf` takes a cap away.

    Models without a known price are capped by tokens, in and out together.
    """

    per_job_usd: float = 5.0
    per_day_usd: float = 10.0
    per_role_usd: dict[RoleName, float] = {}
    per_job_unpriced_tokens: float = 20_000_000
    per_day_unpriced_tokens: float = 50_000_000


class Retention(Section, frozen=True):
    """How long what is bulky is kept; `inf` keeps it for ever. Events, transcripts and memories always stay.

    Model answers and large outputs of stages count from the end of their job: answers are only needed to go on after a
    crash. A log file that outgrows `logs_mb` is moved to `NAME.log.1`.
    """

    answers_days: float = 7.0
    outputs_days: float = 30.0
    spans_days: float = 30.0
    logs_mb: float = 5.0

    def __post_init__(self) -> None:
        for name in ("answers_days", "outputs_days", "spans_days"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0")
        if not self.logs_mb >= 0.1:
            raise ValueError("logs_mb must be at least 0.1")


class Tracing(Section, frozen=True):
    """`include_content = false` wins over `include_httpx = true`. `ui_url` has `{trace_id}` where a trace's id belongs."""

    enabled: bool = False
    include_httpx: bool = False
    include_content: bool = True
    ui_url: str = ""


class Schedule(Section, frozen=True):
    """When the scheduler asks for jobs. Intervals divide an hour or are whole hours that divide a day.

    A session is extracted by a scheduled sync when nothing was added to it for `settle_minutes`; 0 waits for nothing.
    """

    sync_interval_minutes: int = 10
    maintain_interval_minutes: int = 60
    sync_window: str = "7d"
    sync_max_sessions: int = 50
    settle_minutes: float = 30

    def __post_init__(self) -> None:
        for name in ("sync_interval_minutes", "maintain_interval_minutes"):
            minutes = getattr(self, name)
            if minutes < 1 or 1440 % minutes or (minutes > 60 and minutes % 60) or (minutes < 60 and 60 % minutes):
                raise ValueError(f"{name} must divide 60, or be whole hours that divide a day")
        if not 0 <= self.settle_minutes <= 1440:
            raise ValueError("settle_minutes must be 0 to 1440")

    @property
    def settle_ms(self) -> int:
        """`settle_minutes` in milliseconds."""
        return int(self.settle_minutes * 60_000)


class Queue(Section, frozen=True):
    """Redis. An empty `redis_url` means the embedded server in the state folder."""

    redis_url: str = ""
    slots: int = 8


class Agent(Section, frozen=True):
    """Where one coding agent keeps its sessions, in one folder or several; `enabled = false` leaves it out."""

    path: str | list[str] = ""
    enabled: bool = True


AgentSetting = str | list[str] | Agent
"""A folder, several, or a table."""


class Decay(Section, frozen=True):
    """Confidence fades with the days since a memory was last used; see `memory/checks/decay.py`."""

    enabled: bool = True
    decay_days: int = 180
    min_confidence_floor: float = 0.1
    archive_threshold: float = 0.2
    recent_access_grace_days: int = 30

    def __post_init__(self) -> None:
        if self.decay_days < 30:
            raise ValueError("decay_days must be at least 30")
        for name in ("min_confidence_floor", "archive_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1")
        if self.recent_access_grace_days < 0:
            raise ValueError("recent_access_grace_days must be at least 0")


class Memory(Section, frozen=True):
    """How far agents may go with the memories of one project.

    `max_archived_per_job` counts what is archived, merged, consolidated or superseded. A clean-up looks at `curate_batch`
    memories at a time and at no more than `curate_batches` batches in one run; what is left waits for the next.
    """

    max_archived_per_job: int = 50
    curate_batch: int = 100
    curate_batches: int = 6

    def __post_init__(self) -> None:
        if self.max_archived_per_job < 0:
            raise ValueError("max_archived_per_job must be at least 0")
        if self.curate_batch < 2 or self.curate_batches < 1:
            raise ValueError("curate_batch must be at least 2 and curate_batches at least 1")


class Search(Section, frozen=True):
    """`embeddings` needs the extra `lerim-jobs[embed]`; only the user's own file switches it, for all projects."""

    embeddings: bool = False


class Settings(Section, frozen=True):
    """Everything that can be configured."""

    roles: Roles = Roles()
    providers: dict[str, Provider] = {}
    prices: dict[str, Price] = {}
    budget: Budget = Budget()
    retention: Retention = Retention()
    tracing: Tracing = Tracing()
    schedule: Schedule = Schedule()
    queue: Queue = Queue()
    agents: dict[str, AgentSetting] = {}
    decay: Decay = Decay()
    memory: Memory = Memory()
    search: Search = Search()
