"""Leftovers that run: processes of ours that nobody is responsible for, and hints in Redis that nobody takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from lerim_jobs.audit.finding import Breach, Place
from lerim_jobs.errors import JobsError
from lerim_jobs.jobs.settlement import SETTLED
from lerim_jobs.kinds.kind import QUEUES, host_queue
from lerim_jobs.log.store import Store
from lerim_jobs.machine import embedded, supervision
from lerim_jobs.machine.processes import TEMPORARY, WATCH_PARENT, WATCHED_PID, workers_running

__all__ = ["messages", "processes"]

Look = tuple[str, int, list[Breach]]
_AT_MOST = 10_000


def processes(place: Place) -> Look:
    """Workers, schedulers and supervisors of this state folder, and the Redis in it."""
    import psutil

    count, found = 0, []
    mark = supervision.mark(place.home)
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            about = process.environ()
            if about.get("LERIM_HOME") != str(place.home.root):
                continue
            count += 1
            if why := _orphaned(about, mark):
                found.append(Breach(f"process {process.pid}", why))
    redis, unused = _redis(place)
    return "processes", count + redis, found + unused


def _orphaned(about: Mapping[str, str], mark: str | None) -> str:
    """By the marks in its environment; a process without any was started by a person and is theirs."""
    import psutil

    if supervision.MARK in about and about[supervision.MARK] != mark:
        return "its supervisor is gone"
    watched = about.get(WATCHED_PID, "")
    if about.get(WATCH_PARENT) == "1" and watched.isdigit() and not psutil.pid_exists(int(watched)):
        whose = "command" if about.get(TEMPORARY) == "1" else "supervisor"
        return f"the {whose} that started it is gone"
    return ""


def _redis(place: Place) -> tuple[int, list[Breach]]:
    """At most one server, the recorded one: it stays for the next command, and `lerim down` ends it."""
    if place.settings.queue.redis_url:
        return 0, []
    servers = embedded.servers(place.home)
    strays = [Breach(f"process {one}", "a second Redis in the state folder") for one in servers.strays]
    return len(servers.strays) + bool(servers.recorded), strays


def messages(place: Place) -> Look:
    """Hints for settled stages that wait in a queue that workers serve: they should be taken and dropped at once."""
    served = {queue for worker in workers_running(place.home) for queue in worker.queues}
    count, found = 0, []
    for message_id, job_id, stage in _waiting(place, served):
        count += 1
        if _settled(place.store, job_id, stage):
            found.append(Breach(f"message {message_id}", f"{stage} of {job_id} is settled and nobody takes the hint"))
    return "messages", count, found


def _waiting(place: Place, served: set[str]) -> Iterator[tuple[str, str, str]]:
    import redis

    from lerim_jobs.queue.broker import connect

    if not served:
        return
    try:
        broker = connect(embedded.address(place.home, place.settings))
        for queue in (*QUEUES, host_queue(place.host)):
            if queue in served:
                name = f"{broker.namespace}:{queue}"
                ids: Any = broker.client.lrange(name, 0, _AT_MOST)
                bodies: Any = broker.client.hmget(f"{name}.msgs", ids) if ids else []
                for message_id, body in zip(ids, bodies, strict=True):
                    if body:
                        job_id, stage = msgspec.json.decode(body)["args"]
                        yield message_id.decode(), job_id, stage
    except (redis.RedisError, OSError, JobsError, ValueError, KeyError):
        return  # Redis is down: its hints are lost anyway


def _settled(store: Store, job_id: str, stage: str) -> bool:
    row = store.stage(job_id, stage)
    return row is None or row.state in SETTLED
