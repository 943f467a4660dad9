"""What integration tests share: a model server for each module, with nothing left of the test before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.here import Here
from tests.model_server import ModelServer


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, server: ModelServer) -> Iterator[Here]:
    """A machine whose roles are answered by the scripted model server."""
    place = Here(tmp_path, url=server.url)
    yield place
    place.close()


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.reset()
    return running
