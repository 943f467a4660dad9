"""The pages to look things up name every setting with its default, and every variable that the code reads."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from lerim_jobs import config
from lerim_jobs.providers import PROVIDERS
from lerim_jobs.sessions.agents import AGENTS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "reference"
KINDS = {"providers": config.Provider, "prices": config.Price, "agents": config.Agent}


def rows(text: str) -> dict[str, str]:
    """Key -> default, as a table of the page has them."""
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))


def written(value: Any) -> str:
    """A default as the page writes it."""
    if value is msgspec.NODEFAULT:
        return "required"
    return "unset" if value is None else f"`{json.dumps(value)}`"  # for values like these JSON is TOML


def defaults(section: type[msgspec.Struct]) -> dict[str, str]:
    made = {}
    for field in msgspec.structs.fields(section):
        given = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        made[field.name] = written([] if given == () else given)
    return made


def test_every_setting_stands_on_the_page_with_its_default() -> None:
    parts = re.split(r"^## ", (PAGES / "settings.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    shown = {re.split(r"[.\]]", part.partition("`[")[2])[0]: rows(part) for part in parts if part.startswith("`[")}
    wanted = {
        name: defaults(config.Role if name == "roles" else KINDS.get(name, hint))
        for name, hint in get_type_hints(config.Settings).items()
    }
    assert shown == wanted
    roles = config.load({"LERIM_HOME": "/nowhere"}).roles
    assert (roles.lead.timeout_seconds, roles.explorer.max_iterations) == (300, 8)


def test_every_variable_the_code_reads_stands_on_the_page() -> None:
    page = (PAGES / "environment.md").read_text("utf-8")
    code = "".join(
        path.read_text("utf-8")
        for package in ("lerim_jobs", "workers", "scheduler")
        for path in (REPOSITORY / package).rglob("*.py")
    )
    read = set(re.findall(r"\bLERIM_[A-Z_]+[A-Z]\b", code))
    read |= {spec.key_variable for spec in PROVIDERS.values() if spec.key_variable}
    read |= {spec.home_variable for spec in AGENTS.values()}
    assert {name for name in read if f"`{name}`" not in page} == set()
    assert {name for name in re.findall(r"`(LERIM_\w+)`", page) if name not in read} == set()


def test_the_toml_that_pages_show_is_valid(tmp_path: Path) -> None:
    blocks = [
        block
        for page in sorted((REPOSITORY / "docs").rglob("*.md"))
        for block in re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 4
    for block in blocks:
        assert tomllib.loads(block)
        (tmp_path / "config.toml").write_text(block, "utf-8")
        config.load({"LERIM_HOME": str(tmp_path)})
