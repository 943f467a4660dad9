"""Kinds of jobs are tables: a stage is added by one row and one module, a kind by one file, and nobody else names them."""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs import kinds
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.job import load
from lerim_jobs.kinds import maintain
from lerim_jobs.kinds.kind import Stage
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.spans import skeleton
from tests.here import PROJECT, Here
from workers import registry

KIND = '''
"""trial: count to a number: tally (one a number) -> finish."""

from lerim_jobs.kinds.kind import ASK, Kind, Stage
from lerim_jobs.kinds.shared import FINISH, last, status
from lerim_jobs.log.events import StageRequested


def _first(asked):
    numbers = range(asked.params["numbers"])
    return [*(StageRequested(f"tally:{n}", ASK, {"n": n}) for n in numbers), last()]


_TALLY = Stage(
    name="tally", queue=ASK, run="trial_tally", title="Tally", group="Tally up", sums=("n",),
    says=lambda stage, output: f"counted {output['n']}", decides=("proposals",), changes_memories=True,
)
KIND = Kind(
    name="trial", title="Trial run", stages=(_TALLY, FINISH), first=_first,
    result=lambda done: {"sum": done.sums("tally")["n"], "seen": [one["n"] for one in done.outputs("tally")]},
    status=lambda done: status(done, KIND.stages),
)
'''
TALLY = '''
"""tally: a stage of its own."""

from workers.stage import Outcome


def run(ctx):
    n = ctx.input["n"]
    if n == 13:
        raise ValueError("thirteen")
    return Outcome({"n": n, "proposals": [{"action": "add", "title": f"number {n}", "reason": "trial"}]})
'''


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is a second part of the package of kinds, and one with modules of stages."""
    folder, modules = tmp_path / "kinds", tmp_path / "modules"
    folder.mkdir()
    modules.mkdir()
    (modules / "trial_tally.py").write_text(textwrap.dedent(TALLY), "utf-8")
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(folder)])
    monkeypatch.syspath_prepend(str(modules))
    known = dict(sys.modules)
    forget()
    yield folder
    for name in sys.modules.keys() - known.keys():
        if name.startswith(("lerim_jobs.kinds.", "trial_")):
            del sys.modules[name]
    forget()


def forget() -> None:
    importlib.invalidate_caches()
    kinds.kinds.cache_clear()
    kinds.all_stages.cache_clear()


def test_a_kind_is_added_by_one_file(trial: Path, tmp_path: Path) -> None:
    (trial / "trial.py").write_text(KIND, "utf-8")
    here = Here(tmp_path / "m", sampled=True)
    job_id, result = here.run("trial", numbers=4)
    assert (result["status"], result["sum"], result["seen"]) == ("succeeded", 6, [0, 1, 2, 3])
    job = load(here.store, job_id)
    assert kinds.stage_of("tally:2").says("tally:2", job.stages["tally:2"].output) == "counted 2"
    bones = skeleton(here.store.read(f"job-{job_id}"))
    assert [bone.name for bone in bones if bone.name != "queue wait"] == [
        "Trial run",
        "Tally up",
        *["Tally", "memory add"] * 4,
        "Finish",
    ]
    here.runner.telemetry.keep()
    kept = {span.name for span in SpanStore(here.home.traces).of_trace(job.trace_id)}
    assert {"Trial run", "Tally", "memory add"} <= kept
    here.close()


def test_a_stage_of_a_new_kind_that_fails_is_given_up_like_any_other(trial: Path, tmp_path: Path) -> None:
    (trial / "trial.py").write_text(KIND.replace("changes_memories=True", "max_attempts=1"), "utf-8")
    here = Here(tmp_path / "m")
    _, result = here.run("trial", numbers=14)
    assert (result["status"], len(result["lost_stages"]), result["sum"]) == ("failed", 1, sum(range(13)))
    here.close()


def test_a_stage_is_added_by_one_row_and_one_module(
    trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here before the curator: it is planned, run, told of in the trace and in the sums."""
    row = Stage(name="greet", queue="agent", run="trial_greet", title="Greet", sums=("greeted",))
    (tmp_path / "modules" / "trial_greet.py").write_text(
        "from workers.stage import Outcome\ndef run(ctx):\n    return Outcome({'greeted': 3})\n", "utf-8"
    )

    def first(asked: Any) -> Any:
        from lerim_jobs.log.events import StageRequested

        return [StageRequested(f"greet:{asked.projects[0]}", "agent", {"project_id": PROJECT}), *usual(asked)]

    usual = maintain.KIND.first
    changed = msgspec.structs.replace(maintain.KIND, stages=(row, *maintain.KIND.stages), first=first)
    monkeypatch.setattr(maintain, "KIND", changed)
    forget()
    here = Here(tmp_path / "m")
    job_id, result = here.run("maintain")
    assert result["status"] == "succeeded"
    assert load(here.store, job_id).stages[f"greet:{PROJECT}"].output == {"greeted": 3}
    assert "Greet" in [bone.name for bone in skeleton(here.store.read(f"job-{job_id}"))]
    here.close()


def test_two_stages_of_one_name_are_refused(trial: Path) -> None:
    (trial / "trial.py").write_text(KIND.replace('name="tally"', 'name="answer"'), "utf-8")
    with pytest.raises(ValueError, match="answer"):
        kinds.all_stages()


def test_what_only_another_version_knows_is_named_and_stops_nobody() -> None:
    with pytest.raises(BadInput, match="'dream:1'"):
        kinds.stage_of("dream:1")
    with pytest.raises(BadInput, match="'dream'"):
        kinds.kind_of("dream")
    assert kinds.known_stage("dream:1") is None


def test_every_stage_can_be_loaded_and_every_kind_ends(tmp_path: Path) -> None:
    for name in kinds.all_stages():
        assert callable(registry.load_stage(name))
    for kind in kinds.kinds().values():
        assert kind.stages[-1].name == "finish"


def test_a_stage_is_named_in_its_kind_and_nowhere_else() -> None:
    """Nobody composes a stage's name or compares with one outside `kinds/`; scripts of the drill's model talk of answers."""
    root = Path(kinds.__file__).parents[2]
    files = [path for top in ("lerim_jobs", "workers", "scheduler") for path in (root / top).rglob("*.py")]
    names = "|".join(kinds.all_stages())
    used = re.compile(
        rf'[f"](?:{names}):[{{\w]|(?<!role )(?:==|!=|startswith\()\s*f?"(?:{names})[:"]|family\("(?:{names})"\)'
    )
    found = {
        f"{path.relative_to(root)}: {line.strip()}"
        for path in files
        if path.parent.name != "kinds"
        for line in path.read_text("utf-8").splitlines()
        if used.search(line)
    }
    assert found == set()
