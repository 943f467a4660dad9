"""Real receivers: a traced sync is sent to Phoenix and to MLflow, and read back whole through their own interfaces.

Runs only where LERIM_TEST_BACKENDS names a folder with both in virtual environments, as `make test-backends` makes it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from lerim_jobs.log.events import ModelCalled
from lerim_jobs.tracing.skeleton.record import SpanRecord
from tests.e2e.test_tracing_trouble import trouble
from tests.e2e.traces import FACTS, session_id, whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer, status
from tests.waiting import until

FOLDER = os.environ.get("LERIM_TEST_BACKENDS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="needs Phoenix and MLflow: `make test-backends`")

_BOOT_S = 180
_MLFLOW_SPANS = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
(found,) = [one for one in client.search_traces(locations=["1"]) if one.info.trace_id.endswith(sys.argv[2])]
usage = found.info.token_usage or {}
spans = [{"id": one.span_id, "parent": one.parent_id, "name": one.name, "kind": one.span_type} for one in found.data.spans]
print(json.dumps({"spans": spans, "tokens_in": usage.get("input_tokens"), "tokens_out": usage.get("output_tokens")}))
"""


class Stored(NamedTuple):
    """A trace as a backend has it: span id -> (parent id, name, kind)."""

    spans: dict[str, tuple[str | None, str, str]]
    rows: int
    tokens_in: int
    tokens_out: int


# --- the servers -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Its ports for HTTP and gRPC."""
    place, http, grpc = tmp_path_factory.mktemp("phoenix"), _free_port(), _free_port()
    env = {"PHOENIX_WORKING_DIR": str(place), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(http)}
    env |= {"PHOENIX_GRPC_PORT": str(grpc), "PHOENIX_TELEMETRY_ENABLED": "false"}
    with _running([_bin("phoenix", "phoenix"), "serve"], env, place, f"http://127.0.0.1:{http}/healthz"):
        yield http, grpc


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; the experiment `1` is there."""
    place, port = tmp_path_factory.mktemp("mlflow"), _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [_bin("mlflow", "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db"]
    with _running(command, {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}, place, f"{url}/health"):
        made = _post(f"{url}/api/2.0/mlflow/experiments/create", {"name": "lerim"})
        assert made["experiment_id"] == "1"
        yield url


@contextmanager
def _running(command: list[str], env: dict[str, str], place: Path, health: str) -> Iterator[None]:
    """A server on loopback until the end of the block; then its whole process tree goes, by process id."""
    with (place / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(place), **env},
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until(lambda: _answers(health) or process.poll() is not None, _BOOT_S, what="a server", poll_s=0.5)
        assert process.poll() is None, (place / "server.log").read_text()[-3000:]
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(process.pid)
            family = [*server.children(recursive=True), server]
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.terminate()
            for member in psutil.wait_procs(family, 5)[1]:
                member.kill()
        process.wait(5)


# --- reading back ----------------------------------------------------------------------------------
def from_phoenix(port: int, trace_id: str) -> Stored:
    address = f"http://127.0.0.1:{port}/v1/projects/default/spans?limit=1000&trace_id={trace_id}"
    rows = _get(address)["data"]
    about = [row["attributes"] for row in rows if row["name"].startswith("chat ")]
    return Stored(
        {row["context"]["span_id"]: (row["parent_id"], row["name"], row["span_kind"]) for row in rows},
        len(rows),
        sum(_number(one, "llm.token_count.prompt") for one in about),
        sum(_number(one, "llm.token_count.completion") for one in about),
    )


def from_mlflow(url: str, trace_id: str) -> Stored:
    command = [_bin("mlflow", "python"), "-c", _MLFLOW_SPANS, url, trace_id]
    env = {"PATH": os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": url}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    spans = {one["id"]: (one["parent"], one["name"], one["kind"]) for one in found["spans"]}
    return Stored(spans, len(found["spans"]), found["tokens_in"], found["tokens_out"])


# --- the tests -------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a10_phoenix_has_the_whole_trace(
    phoenix: tuple[int, int], tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    http, grpc = phoenix
    endpoint = f"http://127.0.0.1:{grpc if protocol == 'grpc' else http}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with capsys.disabled():
        _send_and_compare(tmp_path, env, lambda trace_id: from_phoenix(http, trace_id), f"Phoenix, {protocol}")


def test_a10_mlflow_has_the_whole_trace(mlflow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": mlflow, "OTEL_EXPORTER_OTLP_HEADERS": "x-mlflow-experiment-id=1"}
    with capsys.disabled():
        _send_and_compare(tmp_path, env, lambda trace_id: from_mlflow(mlflow, trace_id), "MLflow, http/protobuf")


def _send_and_compare(place: Path, env: dict[str, str], read: Callable[[str], Stored], name: str) -> None:
    spans, calls, served = _traced_sync(place, env)
    (root,) = [span for span in spans if span.parent_span_id is None]
    last: list[Stored] = []

    def whole() -> bool:
        with suppress(urllib.error.URLError, AssertionError, KeyError):
            last[:] = [read(root.trace_id)]
        return bool(last) and last[0].rows >= len(spans)

    with suppress(AssertionError):
        until(whole, 60, what="all spans", poll_s=2.0)
    stored = last[0]
    roots = [one for one in stored.spans.values() if one[0] is None]
    orphans = [one for one in stored.spans.values() if one[0] is not None and one[0] not in stored.spans]
    print(
        f"\n| {name} | {len(spans)} | {stored.rows} | {len(roots)} | {len(orphans)} | {sum(served):,} | "
        f"{stored.tokens_in + stored.tokens_out:,} |"
    )
    print("  kinds:", dict(Counter(kind for _, _, kind in stored.spans.values())))
    assert stored.spans.keys() == {span.span_id for span in spans}
    assert stored.rows == len(spans)
    assert ([one[1] for one in roots], orphans) == (["Sync run"], [])
    assert (stored.tokens_in, stored.tokens_out) == served
    assert served == (sum(one.tokens_in for one in calls), sum(one.tokens_out for one in calls))


def _traced_sync(place: Path, env: dict[str, str]) -> tuple[list[SpanRecord], list[ModelCalled], tuple[int, int]]:
    """Two sessions, a 429, a fallback, a failing tool, a swallowed error: spans, calls, tokens the server served."""
    with ModelServer() as server:
        world = World(place, url=server.url, extra_env=env)
        try:
            world.configure(window=700, lead='fallback_models = ["second-lead"]')
            world.lerim("project", "add", str(world.project))
            server.script(status(429, retry_after_s=0.2), model="extract-model")
            server.answer = trouble
            world.session(session_id(1), FACTS[:3], day=1)
            world.session(session_id(2), FACTS[3:4], day=2)
            with world.workers(1):
                job_id = world.sync()["job_id"]
                time.sleep(1.5)  # the exporter sends once a second
            calls = [row.event for row in world.events(job_id) if isinstance(row.event, ModelCalled)]
            return whole_trace(world, job_id), calls, (server.tokens_in, server.tokens_out)
        finally:
            world.close()


# --- small things ----------------------------------------------------------------------------------
def _bin(environment: str, program: str) -> str:
    return str(Path(FOLDER).resolve() / environment / "bin" / program)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def _number(attributes: dict[str, Any], key: str) -> int:
    return int(attributes.get(key) or 0)
