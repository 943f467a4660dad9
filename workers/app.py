"""What `python -m dramatiq workers.app` loads, in each worker process: settings, broker, actors, life cycle."""

from __future__ import annotations

import dramatiq

from workers.process import WorkerProcess

process = WorkerProcess.from_environment()
broker = process.broker
dramatiq.set_broker(broker)
