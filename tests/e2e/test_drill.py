"""Acceptance B3, B8: the short drill ends with six zeros; without fencing and quote check a drill finds it out.

The latter takes minutes: `make drill-sabotage`. What the audit says of late commits and of false quotes is in
`tests/integration/test_audit.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import until

SABOTAGE = textwrap.dedent(
    '''
    """Workers without fencing and without quote checks."""

    import sys

    def put(owner, name, value):
        assert hasattr(owner, name), f"{name} of {owner} is not there any more"
        setattr(owner, name, value)

    if "workers" in sys.orig_argv:
        from lerim_jobs.jobs import claims
        from lerim_jobs.log.store import StageRow
        from lerim_jobs.memory.checks import proof
        from lerim_jobs.sessions import transcript

        def unfenced(tx, held):
            return tx.stage(held.job_id, held.stage) or StageRow(held.job_id, held.stage, held.queue, "running")

        put(claims, "fenced", unfenced)
        put(claims, "_is_held", lambda row, held: True)
        put(transcript, "find_quote", lambda turns, quote: turns[0] if turns else None)
        put(proof.Witness, "turn_of", lambda self, candidate, over, text: (self._turns[0], candidate.confidence))
    '''
)


def drill(tmp_path: Path, *arguments: str, path: str = "") -> tuple[int, dict[str, Any], str]:
    python_path = os.pathsep.join(part for part in (path, os.environ.get("PYTHONPATH", "")) if part)
    env = {**os.environ, "TMPDIR": str(tmp_path), **({"PYTHONPATH": python_path} if python_path else {})}
    done = subprocess.run(
        [sys.executable, "-m", "lerim_jobs.cli", "drill", "--json", *arguments],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_b3_b8_a_short_drill_ends_with_six_zeros(tmp_path: Path) -> None:
    code, report, said = drill(tmp_path, "--minutes", "0.3", "--faults", "14", "--seed", "5")
    assert code == 0, (json.dumps(report, indent=1), said)
    assert sum(report["faults"].values()) >= 14
    assert len(report["faults"]) >= 5
    assert report["audit"]["checked"]["model_calls"] == report["calls"]["recorded"] > 10
    assert report["memories"] > 5
    assert (report["open_jobs"], report["sandbox"]) == ([], None)
    assert list(tmp_path.glob("lerim-drill-*")) == []


@pytest.mark.slow
def test_a_drill_that_is_told_to_stop_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lerim_jobs.cli", "drill", "--minutes", "5"]
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=said)
    try:
        until(lambda: "0 s" in (tmp_path / "said").read_text(), 120, what="the first fault")
        assert ours(tmp_path)
        running.terminate()
        assert running.wait(60) == 130
    finally:
        running.kill()
        left = ours(tmp_path)
        for process in left:
            process.kill()
    assert left == []


def ours(place: Path) -> list[psutil.Process]:
    """Processes that belong to a sandbox below the folder, but for the drill itself."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), process.environ().get("LERIM_HOME", "")]
            if any(str(place) in word for word in words):
                found.append(process)
    return found


def saboteur_in(tmp_path: Path) -> str:
    """A folder for PYTHONPATH that makes workers unsafe."""
    (tmp_path / "saboteur").mkdir()
    (tmp_path / "saboteur" / "sitecustomize.py").write_text(SABOTAGE, "utf-8")
    return str(tmp_path / "saboteur")


def test_what_the_saboteur_takes_out_is_still_there(tmp_path: Path) -> None:
    """So that the test that takes minutes, and is run now and then, does not run in vain."""
    command = [sys.executable, "-m", "workers", "--help"]
    env = {**os.environ, "PYTHONPATH": saboteur_in(tmp_path)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.environ.get("LERIM_TEST_SABOTAGE"), reason="takes minutes: `make drill-sabotage`")
def test_b3_b8_the_drill_finds_missing_fencing_and_a_missing_quote_check(tmp_path: Path) -> None:
    """A worker is stopped with a finished stage, so without a fence it commits late; whom a lie meets is drawn."""
    saboteur = saboteur_in(tmp_path)
    # What was broken may never come to an end.
    kinds = ("--only", "stop_before_commit", "--only", "made_up_quote", "--settle-s", "8")
    unproved, found = 0, list[str]()
    for seed in ("5", "6", "7"):
        code, report, _ = drill(tmp_path, "--minutes", "0.3", "--faults", "6", "--seed", seed, *kinds, path=saboteur)
        breaches = report["audit"]["breaches"]
        assert (code == 1, Path(report["sandbox"] or "-").is_dir()) == (bool(breaches), bool(breaches))
        unproved += report["audit"]["unsupported_memories"]
        found += [one["what"] for one in breaches.get("unaccounted", ()) if "again" in one["what"]]
        if unproved and found:
            return
    raise AssertionError((unproved, found))
