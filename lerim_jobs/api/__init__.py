"""lerim-jobs from a Python program: the one service behind the commands, and behind whatever else asks.

    from lerim_jobs import api

    with api.open() as lerim:
        job = lerim.ask("Which database do we use for orders?")
        print(job.answer, job.citations)

Importing this loads no model library, no queue and no telemetry; what reads never does. Errors are `lerim_jobs.errors`.
"""

from __future__ import annotations

from lerim_jobs.api.lerim import Lerim, open
from lerim_jobs.api.results import Context, Job, Memory, Progress, ShownMemory, Status

__all__ = ["Context", "Job", "Lerim", "Memory", "Progress", "ShownMemory", "Status", "open"]
