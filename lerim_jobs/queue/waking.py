"""Waking idle workers: whoever sends a hint also publishes its queue's name, and a listening worker looks there at once.

dramatiq's Redis consumer polls, so a short wait costs CPU all day (Bogdanp/dramatiq#773). Here a consumer sleeps until it is
woken, until its next delayed message is due, or until it is time to look anyway: publishing is as lossy as everything
else about hints. While nobody listens (Redis is away), consumers poll as often as they did before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from queue import PriorityQueue
from typing import Any

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer  # the only consumer there is; upstream has no seam

__all__ = ["WakingBroker"]

_log = logging.getLogger(__name__)
_LOOK_ANYWAY_S = 5.0
_LISTEN_S = 20.0


class WakingBroker(RedisBroker):
    """A Redis broker whose consumers are woken. `poll_s` is how often they look while they cannot be woken, `reconnect_s` the
    wait before it listens again.
    """

    poll_s = 0.1
    reconnect_s = 1.0

    def __init__(self, **options: Any) -> None:
        self.listening = threading.Event()
        self._wakes: dict[str, threading.Event] = {}
        super().__init__(**options)  # type: ignore[no-untyped-call]  # upstream has no types

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return _WokenConsumer

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put the message into its queue, then tell everybody who listens."""
        sent = self.put(message, delay=delay)
        self.tell([sent.queue_name])
        return sent

    def put(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put the message into its queue and tell nobody."""
        return super().enqueue(message, delay=delay)

    def tell(self, queues: Iterable[str]) -> None:
        """Wake whoever waits for one of the queues: one word is enough for many messages."""
        for queue in queues:
            self.client.publish(self._channel, queue)

    def wake_of(self, queue: str) -> threading.Event:
        """What the queue's consumer in this process sleeps on."""
        return self._wakes.setdefault(queue, threading.Event())

    def listen(self) -> None:
        """Wake this process's consumers from now on. Called once, in the process that works."""
        threading.Thread(target=self._listen_for_ever, name="wake", daemon=True).start()

    @property
    def _channel(self) -> str:
        return f"{self.namespace}:wake"

    def _listen_for_ever(self) -> None:
        while True:
            try:
                with self.client.pubsub(ignore_subscribe_messages=False) as feed:
                    feed.subscribe(self._channel)
                    while True:
                        self._hear(feed.get_message(timeout=_LISTEN_S))
            except Exception as exc:  # whatever it was: with this thread gone, every hint would wait for the next look
                if not isinstance(exc, redis.RedisError | OSError):
                    _log.exception("listening for hints failed")
                self.listening.clear()
                time.sleep(self.reconnect_s)

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            # What was sent before nobody heard.
            self.listening.set()
            for wake in list(self._wakes.values()):
                wake.set()
        elif message["type"] == "message":
            self.wake_of(message["data"].decode()).set()


class _WokenConsumer(_RedisConsumer):
    def __init__(self, broker: WakingBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        # Upstream sleeps for its timeout after a fetch that found nothing: not at all, the sleep is ours.
        super().__init__(broker, queue_name, prefetch, 0)  # type: ignore[no-untyped-call]
        self._wake = broker.wake_of(queue_name)
        self._delayed: PriorityQueue[Any] | None = getattr(threading.current_thread(), "delay_queue", None)

    def __next__(self) -> Any:
        self._wake.clear()
        found = super().__next__()  # type: ignore[no-untyped-call]
        if found is None:
            self._wake.wait(self._sleep_s())
        return found

    def ack(self, message: Any) -> None:
        """There is room for another one."""
        super().ack(message)  # type: ignore[no-untyped-call]
        self._wake.set()

    def nack(self, message: Any) -> None:
        """There is room for another one."""
        super().nack(message)  # type: ignore[no-untyped-call]
        self._wake.set()

    def _sleep_s(self) -> float:
        sleep_s = _LOOK_ANYWAY_S if self.broker.listening.is_set() else self.broker.poll_s
        if self._delayed is not None and self._delayed.queue:
            sleep_s = min(sleep_s, max(0.0, self._delayed.queue[0].priority / 1000 - time.time()))
        return sleep_s
