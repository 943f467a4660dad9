"""B9: nothing to do costs next to nothing. `make bench-idle` measures it longer, and alone on the machine."""

from __future__ import annotations

import time

import msgspec
import psutil
import pytest

from tests.e2e.world import World
from tests.model_server import ModelServer
from tests.waiting import until

LOOK_S = 10.0
MOST_CPU = 0.02
"""Of one core, for all processes: twice the promised one, since tests run beside each other and their caches suffer."""
MOST_GROWTH_BYTES = 8_000_000


@pytest.mark.slow
def test_b9_everything_idle_costs_next_to_nothing(world: World, server: ModelServer) -> None:
    world.session("dddddddd-0000-4000-8000-000000000001", ["REMEMBER: orders are kept in Postgres."])
    world.lerim("up")
    assert world.sync()["status"] == "succeeded"
    until(lambda: cpu_s_of(world, 1.0) < 0.1, 60, what="an end of what starting takes")
    calls, before, begin = len(server.served), costs(world), time.monotonic()
    time.sleep(LOOK_S)  # what is measured is what happens while nothing does
    after, passed_s = costs(world), time.monotonic() - begin
    assert before.keys() == after.keys()
    cpu_s = {pid: after[pid][1] - before[pid][1] for pid in before}
    assert sum(cpu_s.values()) < MOST_CPU * passed_s, {before[pid][0]: used for pid, used in cpu_s.items()}
    assert sum(one[2] for one in after.values()) - sum(one[2] for one in before.values()) < MOST_GROWTH_BYTES
    assert len(server.served) == calls > 0


def cpu_s_of(world: World, seconds: float) -> float:
    """CPU seconds that everything uses within some seconds; as many where a process came or went meanwhile."""
    before = costs(world)
    time.sleep(seconds)
    after = costs(world)
    return sum(after[pid][1] - before[pid][1] for pid in before) if before.keys() == after.keys() else seconds


def costs(world: World) -> dict[int, tuple[str, float, int]]:
    """Command, CPU seconds and resident bytes of everything `lerim up` keeps, by pid."""
    supervisor = psutil.Process(int((world.home.run / "supervisord.pid").read_text("ascii")))
    redis = psutil.Process(msgspec.json.decode((world.home.run / "redis.json").read_bytes())["pid"])
    found = {}
    for process in (supervisor, *supervisor.children(recursive=True), redis):
        times = process.cpu_times()
        found[process.pid] = (" ".join(process.cmdline()), times.user + times.system, process.memory_info().rss)
    return found
