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


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[World]:
    """A machine without any model."""
    made = World(tmp_path)
    yield made
    made.close()
    until(lambda: not made.ours(), 10, what=f"an end of all processes {made.ours()}")
