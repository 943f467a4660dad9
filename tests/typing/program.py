"""A program of somebody who uses the API: `tests/integration/test_typing.py` lets mypy look at it from outside.

Each `type: ignore` marks a use that must be refused: without the error it would be an unused one, which strict mypy reports.
"""

from __future__ import annotations

from typing import assert_type

from lerim_jobs import api
from lerim_jobs.errors import JobsError, WaitTimeout


def answer(lerim: api.Lerim, question: str) -> str:
    """Ask, and say why there is no answer."""
    try:
        job = lerim.ask(question, timeout_s=30, on_progress=lambda step: print(step.text))
    except WaitTimeout as exc:
        return assert_type(exc.job_id, str)
    except JobsError as exc:
        return assert_type(exc.code, str)
    assert_type(job, api.Job)
    assert_type(job.memories, dict[str, int])
    return assert_type(job.answer, str | None) or job.error or ""


def follow(lerim: api.Lerim, job_id: str) -> api.Job:
    """Follow a job, and look at how it ended."""
    for step in lerim.follow(job_id):
        print(assert_type(step, api.Progress).text)
    return lerim.job(job_id)


def read(lerim: api.Lerim) -> list[str]:
    """Everything that can be read."""
    assert_type(lerim.search("orders"), list[api.Memory])
    assert_type(lerim.memories(kind="decision")[0].quote, str | None)
    assert_type(lerim.show("aaaa").origins[0].quote.text, str)
    assert_type(lerim.context().markdown, str)
    assert_type(lerim.status().projects[0].last_sync, str | None)
    return [job.status for job in lerim.jobs(limit=5)]


def wrong(lerim: api.Lerim) -> None:
    """What the types must refuse."""
    lerim.ask(42)  # type: ignore[arg-type]
    lerim.ask("why?", "shop")  # type: ignore[call-arg]
    lerim.sync(windows="7d")  # type: ignore[call-arg]
    lerim.memories()[0].title = "other"  # type: ignore[misc]
    lerim.job("ask-1").answer.upper()  # type: ignore[union-attr]


if __name__ == "__main__":
    with api.open() as opened:
        print(answer(opened, "Which database do we use?"), read(opened))
