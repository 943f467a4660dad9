"""Hints over Redis: "look at stage S of job J". Messages go by actor name, so a sender never loads an actor.

A hint carries nothing else: what a worker needs, its trace included, it reads from the log. Losing, doubling or delaying one
changes nothing: the claim in the log decides. Senders retry nothing either; the
sweeper sends again what the log still expects.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.kinds.kind import family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dramatiq import Middleware
    from dramatiq.brokers.redis import RedisBroker

    from lerim_jobs.log.store import StageRow
    from lerim_jobs.queue.waking import WakingBroker

__all__ = ["connect", "queue_length", "safe_url", "send", "send_all"]

_SOCKET_TIMEOUT_S = 5.0


def connect(url: str, *, middleware: Iterable[Middleware] = ()) -> WakingBroker:
    """A broker with no middleware but the given: retries, limits and results belong to the log."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from lerim_jobs.queue.waking import WakingBroker

    pool = redis.ConnectionPool.from_url(
        url,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        health_check_interval=30,
        # A dropped connection is worth one more try; a dead server is the sweeper's business, not a reason to wait here.
        retry=Retry(NoBackoff(), 1),
    )
    client = redis.Redis(connection_pool=pool)
    return WakingBroker(client=client, middleware=list(middleware))


def send(broker: WakingBroker, row: StageRow, *, delay_ms: int = 0) -> None:
    """Send one hint, to arrive after `delay_ms`. Raises QueueUnavailable when Redis does not take it."""
    with _redis_failing():
        broker.tell([_put(broker, row, delay_ms)])


def send_all(broker: WakingBroker, rows: Iterable[StageRow], *, now_ms: int = 0) -> bool:
    """Send hints as well as it goes. False: Redis failed; the sweeper will send what is missing.

    With `now_ms`, the store's clock, a stage that is due later gets its hint then.
    """
    try:
        with _redis_failing():
            broker.tell({_put(broker, row, max(0, row.due_ms - now_ms) if now_ms else 0) for row in rows})
    except QueueUnavailable:
        return False
    return True


def _put(broker: WakingBroker, row: StageRow, delay_ms: int) -> str:
    """The queue the hint lies in."""
    from dramatiq import Message

    message: Message[None] = Message(
        queue_name=row.queue, actor_name=family(row.stage), args=(row.job_id, row.stage), kwargs={}, options={}
    )
    broker.declare_queue(row.queue)
    return broker.put(message, delay=delay_ms or None).queue_name


@contextmanager
def _redis_failing() -> Iterator[None]:
    import redis
    from dramatiq.errors import BrokerConnectionError

    try:
        yield
    except (redis.RedisError, BrokerConnectionError, OSError) as exc:
        raise QueueUnavailable(f"Redis did not take a message: {type(exc).__name__}") from exc


def queue_length(broker: RedisBroker, queue: str) -> int:
    """Messages that wait in the queue, not counting those a worker has taken; -1 when Redis cannot say."""
    import redis

    try:
        return int(broker.client.llen(f"{broker.namespace}:{queue}"))
    except (redis.RedisError, OSError):
        return -1


def safe_url(url: str) -> str:
    """The URL without its password, for messages."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else url
