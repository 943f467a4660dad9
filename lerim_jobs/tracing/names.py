"""Span names and attribute keys, in one place: OpenTelemetry's GenAI conventions, and `lerim.*` for what is our own.

The conventions moved to open-telemetry/semantic-conventions-genai and still change; a renamed key changes here only.
"""

from __future__ import annotations

from lerim_jobs.kinds import kinds, known_stage
from lerim_jobs.kinds.kind import family

__all__ = [
    "AGENT_NAME",
    "ATTEMPT",
    "CALL_COST",
    "CALL_TOKENS_IN",
    "CALL_TOKENS_OUT",
    "CONVERSATION_ID",
    "COST",
    "COST_USD",
    "ERROR_TYPE",
    "FAILED_CALLS",
    "FALLBACK",
    "FALLBACKS",
    "HOST",
    "INCLUDE_HTTPX",
    "INPUT",
    "JOB_ID",
    "JOB_KIND",
    "JOB_STATUS",
    "LINK",
    "LOST_SPAN",
    "MESSAGING_OPERATION",
    "MESSAGING_QUEUE",
    "MESSAGING_SYSTEM",
    "MODEL_CALLS",
    "OPERATION",
    "OUTCOME",
    "OUTPUT",
    "PROJECT",
    "QUEUE_WAIT",
    "QUEUE_WAIT_MS",
    "REASON",
    "REFUSED",
    "REQUESTED_BY",
    "RESENT",
    "RESULT",
    "RETRY_AT",
    "RETRY_DELAY_MS",
    "ROLE",
    "SCOPE",
    "SESSION",
    "STAGE",
    "STAGES",
    "STARTED",
    "SUMMARY",
    "SWALLOWED_ERRORS",
    "SYNTHETIC",
    "TOKENS_IN",
    "TOKENS_OUT",
    "UNPRICED_CALLS",
    "USAGE_IN",
    "USAGE_OUT",
    "WINDOW",
    "WORKER",
    "group_title",
    "root_title",
    "stage_title",
    "window_of",
]

REASON = "lerim.reason"
REFUSED = "lerim.refused"
SCOPE = "lerim_jobs"
"""Instrumentation scope of the spans we make ourselves."""

# --- GenAI conventions ---
OPERATION = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
"""The coding session, not an agent's own run."""
SESSION = "lerim.session_id"
"""The same under a name of ours: agents put a conversation of their own into the baggage under the other one."""
USAGE_IN = "gen_ai.usage.input_tokens"
USAGE_OUT = "gen_ai.usage.output_tokens"
COST = "operation.cost"
"""US dollars of one model call; absent, never 0, where the price is unknown."""
ERROR_TYPE = "error.type"

# --- messaging conventions ---
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION = "messaging.operation.type"
MESSAGING_QUEUE = "messaging.destination.name"

# --- our own ---
JOB_ID = "lerim.job_id"
JOB_KIND = "lerim.job_kind"
JOB_STATUS = "lerim.job_status"
REQUESTED_BY = "lerim.requested_by"
STAGE = "lerim.stage"
ATTEMPT = "lerim.attempt"
OUTCOME = "lerim.outcome"
"""ok | retry_scheduled | dead | worker_lost | handed_back | parked | cancelled"""
ROLE = "lerim.role"
PROJECT = "lerim.project"
WORKER = "lerim.worker"
HOST = "lerim.host"
INCLUDE_HTTPX = "httpx"
"""Baggage only, no attribute: whether the job wants the bodies of HTTP calls."""
WINDOW = "lerim.window.index"
INPUT = "lerim.input"
"""What a stage worked on, as a reference: session stream and turns, window, project."""
QUEUE_WAIT_MS = "lerim.queue.wait_ms"
RETRY_AT = "lerim.retry_at"
RETRY_DELAY_MS = "lerim.retry_delay_ms"
LINK = "lerim.link"
"""fan_in | previous_attempt"""
MODEL_CALLS = "lerim.model_calls"
FAILED_CALLS = "lerim.failed_calls"
FALLBACKS = "lerim.fallbacks"
UNPRICED_CALLS = "lerim.unpriced_calls"
# Sums have names of their own: backends add up `gen_ai.usage.*` over all spans and would count a parent's sum twice.
TOKENS_IN = "lerim.tokens_in"
TOKENS_OUT = "lerim.tokens_out"
COST_USD = "lerim.cost_usd"
CALL_TOKENS_IN = "lerim.call.tokens_in"
CALL_TOKENS_OUT = "lerim.call.tokens_out"
CALL_COST = "lerim.call.cost"
"""What the log says of one model call: dollars, or `unknown`. They overrule what a library worked out by itself."""
FALLBACK = "lerim.fallback"
RESENT = "hint sent again"
SUMMARY = "lerim.summary"
OUTPUT = "lerim.output"
RESULT = "lerim.result"
STAGES = "lerim.stages"
SWALLOWED_ERRORS = "lerim.swallowed_errors"
SYNTHETIC = "lerim.synthetic"
"""The span was rebuilt from the log or from its children because its process died."""

QUEUE_WAIT = "queue wait"
STARTED = "started"
"""A span without length, sent when the first worker begins: backends that show no open spans show this one."""
LOST_SPAN = "lost with its worker"


def root_title(kind: str) -> str:
    """The root span's name for a job kind."""
    known = kinds().get(kind)
    return known.title if known else kind


def window_of(stage: str) -> int | None:
    """The number at the end of a stage's name, where its family is numbered."""
    known, number = known_stage(stage), stage.rpartition(":")[2]
    is_window = known is not None and known.numbered and stage.count(":") > 1
    return int(number[:9]) if is_window and number.isascii() and number.isdigit() else None


def stage_title(stage: str) -> str:
    """The span name of a stage's attempts; low cardinality, except for the window number."""
    window, known = window_of(stage), known_stage(stage)
    title = known.title if known else family(stage) or "stage"
    return title if window is None else f"{title} #{window}"


def group_title(stage: str) -> str | None:
    """The name of the span around all stages of this family; None where attempts sit right under the root."""
    known = known_stage(stage)
    return known.group if known else None
