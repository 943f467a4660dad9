"""A12: a worker that dies right after its stage takes none of the stage's spans along, whoever closes the trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.jobs import claims
from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing import names
from lerim_jobs.tracing.skeleton import skeleton
from lerim_jobs.tracing.spans import SpanStore
from tests.here import Here
from tests.model_server import ModelServer, brain

SESSION = "cccccccc-0000-4000-8000-000000000001"


def test_a12_what_a_stage_recorded_is_stored_before_its_outcome_is(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(tmp_path / "m", url=server.url, sampled=True)
    commit = claims.complete
    at_commit: dict[str, set[str]] = {}

    def complete(store: Any, held: claims.Claim, **given: Any) -> Any:
        at_commit[held.stage] = {name for name, stage in leaves(here, held.job_id) if stage == held.stage}
        return commit(store, held, **given)

    monkeypatch.setattr(claims, "complete", complete)
    server.answer = brain
    here.session(SESSION, ["REMEMBER: orders are kept in Postgres."])
    job_id, result = here.run("sync")
    assert result["memories"]["added"] == 1
    here.close()
    asked = {stage: {name for name, of in leaves(here, job_id) if of == stage} for stage in at_commit}
    assert asked == at_commit
    assert any(name.startswith("invoke_agent") for name in asked[next(s for s in asked if s.startswith("integrate"))])


def leaves(here: Here, job_id: str) -> list[tuple[str, Any]]:
    """Name and stage of every stored span that the log does not tell."""
    rows = here.store.read(f"job-{job_id}")
    request = rows[0].event
    assert isinstance(request, JobRequested)
    bones = {bone.span_id for bone in skeleton(rows)}
    stored = SpanStore(here.home.traces).of_trace(request.trace_id)
    return [(span.name, span.attributes.get(names.STAGE)) for span in stored if span.span_id not in bones]
