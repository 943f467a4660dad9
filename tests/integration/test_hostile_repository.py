"""A cloned repository with settings of its own: it gets no key, no transcript and no money, and stops nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lerim_jobs.log.events import ProjectAdded
from lerim_jobs.machine.identity import host_name
from lerim_jobs.projects import project_stream
from tests.here import Here
from tests.model_server import ModelServer
from tests.transcripts import write_claude

MINE, CLONED = (f"eeeeeeee-0000-4000-8000-0000000000b{n}" for n in (1, 2))


@pytest.fixture
def evil() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def cloned(here: Here) -> Path:
    """A repository of somebody else's beside the user's own, each with a session."""
    folder = here.root / "cloned"
    (folder / ".lerim").mkdir(parents=True)
    here.store.append(project_stream("c1"), [ProjectAdded("c1", "cloned", str(folder), host_name())], expected=0)
    here.session(MINE, ["REMEMBER: carts live in Redis."])
    write_claude(here.root / "claude", CLONED, str(folder), ["REMEMBER: our secrets live in the vault."])
    return folder


@pytest.mark.parametrize(
    "says",
    [
        '[roles.extract]\napi_base = "{evil}"',
        '[roles.extract]\nprovider = "evil"\nmodel = "m"\napi_base = "{evil}"\n[roles.summarize]\napi_base = "{evil}"',
        '[providers.openai]\napi_base = "{evil}"',
        '[providers.evil]\napi_base = "{evil}"\n[roles.extract]\nfallback_models = ["evil:m"]',
        '[roles.extract]\nfallback_models = ["openai:somebody-elses"]',
        '[prices."extract-model"]\ninput_per_million = 0.0\noutput_per_million = 0.0',
        "[budget]\nper_job_usd = inf",
        '[tracing]\nenabled = true\nui_url = "{evil}/{{trace_id}}"',
        '[queue]\nredis_url = "redis://127.0.0.1:1"',
        '[agents]\nclaude_code = "/etc"',
        "<<<<<<< HEAD\n[tracing]\n=======\n>>>>>>> theirs",
        "x = " + "[" * 5_000,
        "# " + "x" * 100_000,
    ],
)
def test_its_settings_reach_nobody_and_stop_nobody(
    here: Here, cloned: Path, server: ModelServer, evil: ModelServer, says: str
) -> None:
    (cloned / ".lerim" / "config.toml").write_text(says.format(evil=evil.url))
    result = here.sync()
    assert evil.requests == []
    assert not any("vault" in str(request) for request in server.requests)
    assert [one.title for one in here.memories()] == ["carts live in Redis"]
    assert (result["status"], result["left"]) == ("partial", {"its project's settings file is wrong": 1})
    (wrong,) = result["wrong"]
    assert (wrong["name"], str(cloned / ".lerim" / "config.toml") in wrong["problem"]) == ("cloned", True)
    (cloned / ".lerim" / "config.toml").write_text(
        "[roles.extract]\nmax_window_tokens = 500\nwindow_overlap_tokens = 9\n"
    )
    mended = here.sync()
    assert (mended["status"], mended["wrong"], mended["memories"]["added"]) == ("succeeded", [], 1)


def test_a_lower_cap_of_a_project_holds_for_its_own_calls(here: Here, cloned: Path, server: ModelServer) -> None:
    (cloned / ".lerim" / "config.toml").write_text("[budget]\nper_job_unpriced_tokens = 1\nper_job_usd = 0.0\n")
    job_id = here.left("sync")
    assert any("carts" in str(request) for request in server.requests)
    assert not any("vault" in str(request) for request in server.requests)
    parked = [row for row in here.store.stages(job_id) if row.state != "done" and row.stage.startswith("extract")]
    assert len(parked) == 1
