"""A12: a worker that dies right after its stage takes none of the stage's spans along, whoever closes the trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.jobs import outcomes
from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing import names
from lerim_jobs.tracing.local.store import SpanStore
from tests.here import Here
from workers.registry import load_stage

SESSION = "cccccccc-0000-4000-8000-000000000001"


def test_a12_what_a_stage_recorded_is_stored_before_its_outcome_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(tmp_path / "m", sampled=True)
    commit = outcomes.complete
    at_commit: dict[str, bool] = {}

    def traced(stage: str) -> Any:
        def run(context: Any) -> Any:
            with here.runner.telemetry.tracer().start_as_current_span(f"in {stage}"):
                return load_stage(stage)(context)

        return run

    def complete(store: Any, held: Any, **given: Any) -> Any:
        at_commit[held.stage] = f"in {held.stage}" in stored(here, held.job_id)
        return commit(store, held, **given)

    monkeypatch.setattr("workers.runner.load_stage", traced)
    monkeypatch.setattr(outcomes, "complete", complete)
    here.session(SESSION, ["We decided to keep orders in Postgres."])
    here.sync()
    here.close()
    assert len(at_commit) >= 5
    assert all(at_commit.values()), at_commit


def stored(here: Here, job_id: str) -> dict[str, Any]:
    """The stage of every span that is in the local store, by the span's name."""
    request = here.store.read(f"job-{job_id}")[0].event
    assert isinstance(request, JobRequested)
    spans = SpanStore(here.home.traces).of_trace(request.trace_id)
    return {span.name: span.attributes.get(names.STAGE) for span in spans}
