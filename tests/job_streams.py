"""Job streams written by hand: a tiny clock and one call per event."""

from __future__ import annotations

from typing import Any

from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import (
    Event,
    JobFinished,
    JobRequested,
    ModelCalled,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageSkipped,
    StageStarted,
)

__all__ = ["START_MS", "TRACE_ID", "JobStream"]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ROOT_ID = "00f067aa0ba902b7"
START_MS = 1_700_000_000_000


class JobStream:
    """Events of one job in order; each is `step_ms` later than the one before."""

    def __init__(self, kind: Any = "sync", *, sampled: bool = True, include_content: bool = True) -> None:
        self.at_ms = START_MS
        self.rows: list[Recorded] = []
        request = JobRequested(
            kind=kind,
            params={},
            scope="all",
            requested_by="cli",
            host="laptop",
            trace_id=TRACE_ID,
            root_span_id=ROOT_ID,
            start_ns=START_MS * 1_000_000 + 456_789,
            sampled=sampled,
            include_content=include_content,
        )
        self.add(request, step_ms=0)

    def add(self, event: Event, *, step_ms: int = 100) -> JobStream:
        self.at_ms += step_ms
        number = len(self.rows) + 1
        kind = type(event).__name__
        row = Recorded(number, f"id-{number}", "job-sync-1", number, kind, 1, encode(event), {}, self.at_ms)
        self.rows.append(row)
        return self

    def requested(self, stage: str, **more: Any) -> JobStream:
        return self.add(StageRequested(stage=stage, queue="extract", **more))

    def started(self, stage: str, attempt: int = 1, *, waited_ms: int = 40, takeover: bool = False) -> JobStream:
        ready_ms = self.at_ms + 100 - waited_ms
        return self.add(StageStarted(stage, attempt, f"worker-{attempt}", ready_ms, takeover))

    def completed(self, stage: str, attempt: int = 1, **output: Any) -> JobStream:
        return self.add(StageCompleted(stage, attempt, output))

    def failed(self, stage: str, attempt: int = 1, *, retry_in_ms: int | None = 2000, code: str = "bug") -> JobStream:
        retry_at = None if retry_in_ms is None else self.at_ms + 100 + retry_in_ms
        return self.add(
            StageFailed(stage, attempt, "ModelUnavailable", code, "no answer from marker-model", ["a.py:1 f"], retry_at)
        )

    def quarantined(self, stage: str, attempts: int = 1, reason: str = "gave up") -> JobStream:
        return self.add(StageQuarantined(stage, attempts, reason))

    def skipped(self, stage: str, reason: str = "extract:aa:0 did not finish") -> JobStream:
        return self.add(StageSkipped(stage, reason))

    def called(self, stage: str, attempt: int = 1, *, tokens: int = 100, cost_usd: float | None = 0.01) -> JobStream:
        return self.add(
            ModelCalled(
                stage=stage,
                attempt=attempt,
                role="extract",
                request_hash="h",
                occurrence=len(self.rows),
                answer_blob="b",
                model_asked="m",
                model="m",
                provider="p",
                tokens_in=tokens,
                tokens_out=10,
                duration_ms=50,
                cost_usd=cost_usd,
            )
        )

    def finished(self, status: Any = "succeeded", error: str | None = None, **result: Any) -> JobStream:
        return self.add(JobFinished(status, result, error))

    def run(self, stage: str, attempt: int = 1, **output: Any) -> JobStream:
        return self.started(stage, attempt).completed(stage, attempt, **output)
