"""`python -m lerim_jobs.cli` is `lerim`."""

from lerim_jobs.cli.main import run

run()
