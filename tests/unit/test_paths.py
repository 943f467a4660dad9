"""Where things lie, and who may look into what is made there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lerim_jobs.errors import ConfigError
from lerim_jobs.machine.locks import exclusive
from lerim_jobs.paths import Home


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_folder_that_was_there_keeps_its_mode_and_what_is_made_in_it_is_private(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    home = Home(shared).ensure()
    assert mode(shared) == 0o755
    assert {mode(folder) for folder in (home.run, home.redis, home.logs)} == {0o700}


def test_every_folder_that_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "not" / "there" / "yet").ensure()
    assert {mode(folder) for folder in (tmp_path / "not", home.root, home.run)} == {0o700}


def test_a_lock_that_comes_before_everything_else_makes_private_folders_as_well(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    with exclusive(home.run / "some.lock"):
        assert (mode(home.root), mode(home.run)) == (0o700, 0o700)


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="LERIM_HOME"):
        Home(tmp_path / "file" / "h").ensure()
