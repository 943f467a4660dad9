"""The job in DBOS on SQLite. Runs in a virtual environment of its own: `python dbos_job.py FOLDER JOBS THREADS`.

Prints jobs a second three times, as JSON: with child workflows over a DBOS queue that is polled every 25 ms (what our queue
does), with child workflows started directly, and with plain steps one after another, which is the cheapest that DBOS has.
"""

import json
import logging
import sys
import time

from dbos import DBOS

folder, jobs, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "log_level": "ERROR"})
_POLL_S = 0.025


@DBOS.step()
def stage(name):
    """Does nothing; its result is stored."""
    return {"stage": name, "candidates": []}


@DBOS.workflow()
def part(name):
    """One of the six, on the queue."""
    return stage(name)


@DBOS.workflow()
def over_queue():
    """8 stages: the six run over the queue."""
    stage("index")
    for handle in [DBOS.enqueue_workflow("stages", part, f"extract:{n}") for n in range(6)]:
        handle.get_result(polling_interval_sec=_POLL_S)
    return stage("finish")


@DBOS.workflow()
def as_children():
    """8 stages: the six are started in this process."""
    stage("index")
    for handle in [DBOS.start_workflow(part, f"extract:{n}") for n in range(6)]:
        handle.get_result()
    return stage("finish")


@DBOS.workflow()
def in_line():
    """8 stages in one workflow, one after another."""
    for name in ("index", *(f"extract:{n}" for n in range(6)), "finish"):
        stage(name)


def measure(workflow, count):
    """Jobs a second, `threads` of them at once."""
    begin = time.perf_counter()
    waiting = []
    for _ in range(count):
        waiting.append(DBOS.start_workflow(workflow))
        if len(waiting) >= threads:
            waiting.pop(0).get_result()
    for handle in waiting:
        handle.get_result()
    return count / (time.perf_counter() - begin)


DBOS.launch()
DBOS.register_queue("stages", worker_concurrency=threads, polling_interval_sec=_POLL_S)
logging.disable(logging.CRITICAL)
for workflow in (over_queue, as_children, in_line):
    measure(workflow, 2)
speeds = {
    "queue": measure(over_queue, max(1, jobs // 4)),
    "children": measure(as_children, max(1, jobs // 2)),
    "in_line": measure(in_line, jobs),
}
print(json.dumps(speeds), flush=True)
DBOS.destroy()
