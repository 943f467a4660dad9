"""Worlds for end-to-end tests; every one is closed and checked for leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import World
from tests.model_server import ModelServer
from tests.waiting import until


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, server: ModelServer) -> Iterator[World]:
    """A machine whose roles are answered by the scripted model server."""
    made = World(tmp_path, url=server.url)
    made.configure()
    made.lerim("project", "add", str(made.project))
    yield made
    made.close()
    until(lambda: not made.ours(), 10, what=f"an end of all processes {made.ours()}")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, ModelServer]]:
    """One machine with two workers for all tests of a module that break nothing."""
    with ModelServer() as server:
        made = World(tmp_path_factory.mktemp("machine"), url=server.url)
        made.configure()
        try:
            with made.workers(2):
                yield made, server
        finally:
            made.close()
        until(lambda: not made.ours(), 10, what=f"an end of all processes {made.ours()}")


@pytest.fixture
def shared(machine: tuple[World, ModelServer], request: pytest.FixtureRequest) -> World:
    """The module's machine, in a project of the test's own; the model server starts afresh."""
    made, server = machine
    server.reset()
    made.move_to(f"shop-{abs(hash(request.node.name)) % 10**8}")
    return made


@pytest.fixture
def model(machine: tuple[World, ModelServer]) -> ModelServer:
    """The model server of the module's machine."""
    return machine[1]


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[World]:
    """A machine without any model."""
    made = World(tmp_path)
    yield made
    made.close()
    until(lambda: not made.ours(), 10, what=f"an end of all processes {made.ours()}")


@pytest.fixture
def ids() -> list[str]:
    """Session ids nobody else uses, in order."""
    import uuid

    return sorted(str(uuid.uuid4()) for _ in range(4))
