"""`python -m tests.poisoned_worker`: `python -m workers` whose extraction of a window with the word POISON kills its process."""

from __future__ import annotations

import os
import signal
from typing import Any

from lerim_jobs.jobs import sweep
from lerim_jobs.kinds import all_stages
from tests.killing_worker import work_for_ever
from workers.models import extraction
from workers.registry import load_stage


def main() -> None:
    """Poison the extraction, then work."""
    for stage in all_stages():
        load_stage(stage)
    extract = extraction.extract

    def poisoned(models: Any, text: str, **options: Any) -> Any:
        if "POISON" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        return extract(models, text, **options)

    sweep.SWEEP_S = 0.3  # what died is found sooner
    extraction.extract = poisoned  # type: ignore[assignment]
    work_for_ever()


if __name__ == "__main__":
    main()
