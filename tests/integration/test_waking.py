"""Idle consumers sleep and are woken: by a message, by a due time, by room for more, and by themselves without Redis' word."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lerim_jobs import config
from lerim_jobs.log.store import StageRow
from lerim_jobs.machine import embedded
from lerim_jobs.paths import Home
from lerim_jobs.queue.broker import connect, send
from lerim_jobs.queue.waking import WakingBroker
from tests.waiting import until

ROW = StageRow("j", "answer", "ask", "ready")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "h").ensure()
    yield made
    embedded.stop(made, only_if_unused=False)


def broker_of(home: Home) -> WakingBroker:
    env = {"PATH": os.environ["PATH"], "LERIM_HOME": str(home.root)}
    return connect(embedded.ensure(home, config.load(env), env).url)


class Worker:
    """A consumer in a thread of its own, counting its looks and taking the time of each message."""

    def __init__(self, broker: WakingBroker, queue: str = "ask", prefetch: int = 4) -> None:
        self.consumer = broker.consume(queue, prefetch)
        self.got: list[float] = []
        self.looks = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                found = next(self.consumer)
            except Exception:  # Redis is away: as dramatiq does, try again
                time.sleep(0.1)
                continue
            self.looks += 1
            if found is not None:
                self.got.append(time.monotonic())


def delivered_after(worker: Worker, broker: WakingBroker) -> float:
    begin, before = time.monotonic(), len(worker.got)
    send(broker, ROW)
    until(lambda: len(worker.got) > before, 10, what="a message", poll_s=0.001)
    return worker.got[-1] - begin


def test_b9_f3_an_idle_consumer_looks_rarely_and_hears_of_a_message_at_once(home: Home) -> None:
    broker, sender = broker_of(home), broker_of(home)
    broker.listen()
    until(broker.listening.is_set, 5, what="listening")
    worker = Worker(broker)
    time.sleep(1.2)  # in which who polls looks twelve times
    assert worker.looks <= 3
    waits = []
    for _ in range(4):
        waits.append(delivered_after(worker, sender))
        time.sleep(0.1)  # it looks once more and sleeps again
    # Far below the 5 s after which it would look by itself.
    assert sorted(waits)[1] < 2


def test_a_full_consumer_fetches_as_soon_as_there_is_room(home: Home) -> None:
    broker = broker_of(home)
    broker.listen()
    until(broker.listening.is_set, 5, what="listening")
    send(broker, ROW)
    send(broker, ROW)
    consumer = broker.consume("ask", 1)
    first = next(consumer)
    threading.Timer(0.3, consumer.ack, [first]).start()
    begin = time.monotonic()
    while next(consumer) is None:
        pass
    assert 0.2 < time.monotonic() - begin < 4


def test_after_redis_was_away_consumers_are_woken_again(home: Home) -> None:
    broker = broker_of(home)
    broker.reconnect_s = 0.05
    broker.listen()
    until(broker.listening.is_set, 5, what="listening")
    worker = Worker(broker)
    os.kill(msgspec.json.decode((home.run / "redis.json").read_bytes())["pid"], signal.SIGKILL)
    until(lambda: not broker.listening.is_set(), 5, what="noticing")
    sender = broker_of(home)
    until(broker.listening.is_set, 5, what="listening again")
    assert delivered_after(worker, sender) < 2


def test_who_cannot_be_woken_polls(home: Home) -> None:
    broker = broker_of(home)
    worker = Worker(broker)
    assert delivered_after(worker, broker) < 2
    until(lambda: worker.looks > 3, 5, what="polling")


def test_a_message_that_cannot_be_read_ends_no_listening(home: Home) -> None:
    broker, sender = broker_of(home), broker_of(home)
    broker.reconnect_s = 0.05
    broker.listen()
    until(broker.listening.is_set, 5, what="listening")
    worker = Worker(broker)
    sender.client.publish(f"{sender.namespace}:wake", b"\xff")
    until(lambda: worker.looks >= 1, 3, what="listening again")
    assert delivered_after(worker, sender) < 2
