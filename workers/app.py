"""What `python -m dramatiq workers.app` loads, in each worker process: settings, broker, actors, life cycle."""

from __future__ import annotations

from workers.process import WorkerProcess

process = WorkerProcess.from_environment()
broker = process.broker
