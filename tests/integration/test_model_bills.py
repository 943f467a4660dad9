"""What a request may cost when nobody says: booked at its bound, given back only where it cost nothing for certain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lerim_jobs.audit.money import overspend
from lerim_jobs.cli.jobs.usage import usage_command
from lerim_jobs.config import Budget, Price, Provider, Role, Roles, Settings
from lerim_jobs.errors import ClaimLost, ConflictError, JobsError, ModelUnavailable, Parked
from lerim_jobs.jobs import budget, claims, recount
from lerim_jobs.jobs.cancelling import cancel
from lerim_jobs.jobs.caps import Spent, Wish
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.usage import usage
from lerim_jobs.log.events import BillPresumed, JobRequested
from lerim_jobs.log.sqlite import SqliteStore
from tests.integration.test_model_faults import refusal
from tests.model_server import ModelServer, Step, drip, hang, raw, reset, status, text
from tests.waiting import until
from workers import scope
from workers.log_journal import LogJournal
from workers.models import Models

PRICES = {"main-model": Price(1.0, 2.0), "backup": Price(1.0, 2.0)}
UNREACHABLE = "http://127.0.0.1:1/v1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "log.sqlite3")
    request_job(made, "a", JobRequested("ask", {}, "all", "cli", "here", "t", "s", 1))
    yield made
    made.close()


def asking(store: SqliteStore, url: str, caps: Callable[[], Settings] = lambda: Settings(), **about: Any) -> Models:
    """Models of a claimed stage, on the real log."""
    one = Role(**{"provider": "openai", "model": "main-model", "api_base": url, "timeout_seconds": 0.5, **about})
    settings = Settings(roles=Roles(lead=one, explorer=one, extract=one, summarize=one), prices=PRICES)
    claim = claims.claim(store, "a", "answer", "me", alive=lambda _: False, max_attempts=9)
    assert isinstance(claim, Claim)
    journal = LogJournal(store, claim, session_id=None, project_id=None, caps_now=caps, meta={})
    return Models(settings=settings, env={}, journal=journal, include_content=False)


def bills(store: SqliteStore) -> list[BillPresumed]:
    return [row.as_(BillPresumed) for row in store.read("job-a") if row.type == "BillPresumed"]


def calls(store: SqliteStore) -> list[Any]:
    return [row.event for row in store.read("job-a") if row.type in ("ModelCalled", "ModelCallFailed")]


def bound_usd() -> float:
    """What one such request reserves: 16,000 tokens of output, and the input's bytes halved."""
    return 2.0 * 16_000 / 1e6


def agrees(store: SqliteStore) -> bool:
    """Whether nothing is reserved any more, and the audit finds in the log what the caps look at."""
    return not budget.reservations(store) and overspend(store).breaches == []


SENT_AND_UNANSWERED = {
    "silence": hang(3),
    "dripping": drip(text("ready"), 20),
    "reset": reset(),
    "half an answer": raw('{"id": "x", "choices": [{"mess'),
}


@pytest.mark.parametrize("step", SENT_AND_UNANSWERED.values(), ids=SENT_AND_UNANSWERED.keys())
def test_a_request_that_left_and_got_no_answer_is_booked_at_its_bound(
    store: SqliteStore, server: ModelServer, step: Step
) -> None:
    server.script(step)
    with pytest.raises(ModelUnavailable):
        asking(store, server.url).ping("lead")
    (bill,) = bills(store)
    assert bound_usd() < (bill.usd or 0) < bound_usd() * 1.1
    assert (bill.model, bill.role, bill.stage, bill.caps_version) == ("main-model", "lead", "answer", 1)
    (call,) = calls(store)
    assert (call.tokens_in, call.tokens_out, call.cost_usd) == (0, 0, None)
    assert call.duration_ms < 2_000
    assert budget.spent(store) == budget.spent(store, job_id="a") == Spent(bill.usd or 0)
    assert agrees(store)
    assert not recount.sums(store)
    assert agrees(store)
    by_model = {line.key: line for line in usage(store, "model")}
    assert by_model["main-model"].presumed_usd == pytest.approx(bill.usd)
    assert (by_model["main-model"].cost_usd, by_model["main-model"].tokens_in) == (None, 0)


@pytest.mark.parametrize("step", [status(429), status(500), status(503), status(401), status(400)])
def test_a_request_the_provider_refused_costs_nothing(store: SqliteStore, server: ModelServer, step: Step) -> None:
    server.script(step)
    with pytest.raises(JobsError):
        asking(store, server.url).ping("lead")
    assert (bills(store), len(calls(store)), budget.spent(store), agrees(store)) == ([], 1, Spent(), True)


def test_a_request_that_could_not_leave_costs_nothing(store: SqliteStore) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        asking(store, UNREACHABLE, timeout_seconds=5.0).ping("lead")
    assert (budget.spent(store), agrees(store)) == (Spent(), True)


def test_time_outs_end_at_the_cap_like_answers(store: SqliteStore, server: ModelServer) -> None:
    """A provider that bills and never answers must not be asked for more than the cap, however often it is tried again."""
    settings = Settings(budget=Budget(per_job_usd=bound_usd() * 2.5))
    server.script(hang(3), hang(3), hang(3))
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            asking(store, server.url, lambda: settings, timeout_seconds=0.2).ping("lead")
    with pytest.raises(Parked, match="per_job_usd"):
        asking(store, server.url, lambda: settings).ping("lead")
    assert len(server.requests) == 2
    assert agrees(store)


def test_models_without_a_price_are_booked_in_tokens_and_both_are_shown(
    store: SqliteStore, server: ModelServer, tmp_path: Path
) -> None:
    for model in ("unpriced", "main-model"):
        server.script(hang(3))
        with pytest.raises(ModelUnavailable):
            asking(store, server.url, model=model, timeout_seconds=0.2).ping("lead")
    used = budget.spent(store)
    assert bound_usd() < used.usd < bound_usd() * 1.1
    assert 16_000 < used.tokens < 17_000
    assert agrees(store)
    shown = CliRunner().invoke(usage_command, [], env={"LERIM_HOME": str(tmp_path)})
    said = f"up to ${used.usd:.4f} and {used.tokens:,} tokens without a known price more"
    assert said in " ".join(shown.output.split()), shown.output


def test_what_a_fallback_replaced_is_booked_with_its_answer(store: SqliteStore, server: ModelServer) -> None:
    server.script(hang(3), model="main-model")
    asking(store, server.url, fallback_models=("backup",)).ping("lead")
    (bill,), (call,) = bills(store), calls(store)
    assert (bill.model, call.model, call.failed[0]["model"]) == ("main-model", "backup", "main-model")
    assert call.cost_usd == pytest.approx((call.tokens_in + 2 * call.tokens_out) / 1e6)
    assert budget.spent(store).usd == pytest.approx((bill.usd or 0) + call.cost_usd)
    assert agrees(store)


def test_what_a_fallback_was_not_let_out_for_is_booked_all_the_same(store: SqliteStore, server: ModelServer) -> None:
    settings = Settings(budget=Budget(per_job_usd=bound_usd() * 1.5))
    server.script(hang(3), model="main-model")
    with pytest.raises(Parked):
        asking(store, server.url, lambda: settings, fallback_models=("backup",)).ping("lead")
    (bill,) = bills(store)
    assert (server.asked("backup"), budget.spent(store)) == (0, Spent(bill.usd or 0))
    assert agrees(store)


def cancelled_while(store: SqliteStore, models: Models, ready: Callable[[], bool]) -> None:
    """The job is cancelled as soon as `ready`, and its claim's calls end."""
    claim_scope, ended = scope.Scope(), []

    def work() -> None:
        scope.current.set(claim_scope)
        try:
            models.ping("lead")
        except (ClaimLost, ConflictError):  # told by its scope, or by the log where the gate asks just then
            ended.append(True)

    worker = threading.Thread(target=work)
    worker.start()
    until(ready, 10, what="a call to cancel")
    cancel(store, "a")
    claim_scope.end()
    worker.join(10)
    assert ended


def test_a_cancelled_request_is_booked_at_its_bound_and_leaves_nothing_reserved(
    store: SqliteStore, server: ModelServer
) -> None:
    server.script(hang(30))
    cancelled_while(store, asking(store, server.url, timeout_seconds=60.0), lambda: len(server.requests) == 1)
    until(lambda: server.hung_up == 1, 5, what="a closed connection")
    (bill,) = until(lambda: bills(store), 5, what="the bill")
    assert (bill.error_type, budget.spent(store)) == ("CancelledError", Spent(bill.usd or 0))
    assert bound_usd() < (bill.usd or 0) < bound_usd() * 1.1
    assert budget.spent(store, job_id="a") == Spent()
    assert agrees(store)


def test_an_answer_of_no_use_is_booked_also_when_the_fallback_is_cancelled(
    store: SqliteStore, server: ModelServer
) -> None:
    server.script(refusal(), model="main-model")
    server.script(hang(30), model="backup")
    models = asking(store, server.url, timeout_seconds=60.0, fallback_models=("backup",))
    cancelled_while(store, models, lambda: server.asked("backup") == 1)
    (call,) = until(lambda: calls(store), 5, what="the bill of the refusal")
    assert (call.tokens_in, call.tokens_out, call.cost_usd) == (5, 5, pytest.approx(15 / 1e6))
    assert [bill.model for bill in bills(store)] == ["backup"]
    assert agrees(store)


def test_a_call_cancelled_in_the_gate_costs_nothing(store: SqliteStore, server: ModelServer) -> None:
    full = Settings(providers={"openai": Provider(max_concurrency=1)})
    other = Wish("b", "lead", "openai", 0.01, 10, "somebody", 60_000)
    assert budget.admit(store, "b/1", other, full, alive=lambda _: True) == 0
    asked: list[Settings] = []

    def caps() -> Settings:
        asked.append(full)
        return full

    cancelled_while(store, asking(store, server.url, caps), lambda: len(asked) > 1)
    assert [one.key for one in budget.reservations(store)] == ["b/1"]
    assert (bills(store), calls(store), server.requests, budget.spent(store)) == ([], [], [], Spent())
