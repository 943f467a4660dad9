"""Memories changed by commands, as a user types them; their files follow at once.

The commands run in this process, which saves a minute; one, on a terminal, is a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lerim_jobs.cli.main import cli
from lerim_jobs.errors import JobsError
from tests.integration.test_cli import refused


class Person:
    """Types commands in a project's folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.project = root, root / "shop"
        self.project.mkdir()
        self.env = {"PATH": os.environ["PATH"], "HOME": str(root), "LERIM_HOME": str(root / "h"), "NO_COLOR": "1"}
        self.lerim("project", "add", str(self.project), expect=0)

    def lerim(
        self, *arguments: str, expect: int | None = None, given: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        with contextlib.chdir(cwd or self.project):
            done = CliRunner().invoke(cli, list(arguments), env=self.env, input=given)
        code, said = done.exit_code, done.stderr
        if isinstance(done.exception, JobsError):
            code, said = done.exception.exit_code, f"{said}lerim: {done.exception}"
        elif done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        text = subprocess.CompletedProcess(list(arguments), code, done.stdout, said)
        assert expect in (None, code), text
        return text

    def memory(self, *arguments: str, given: bytes = b"") -> dict[str, Any]:
        """A `lerim memory` command's one JSON line."""
        (line,) = self.lerim("memory", *arguments, "--json", expect=0, given=given).stdout.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        lines = self.lerim("memory", "list", *arguments, "--json", expect=0).stdout.splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def test_add_edit_archive_and_restore_with_the_file_following(person: Person) -> None:
    added = person.memory(
        "add",
        "Money is integers",
        "--body",
        "-",
        "--kind",
        "decision",
        "--tag",
        "money",
        "--tag",
        "db",
        given=b"Cents.\n",
    )
    path = Path(added["path"])
    assert (added["added"], added["body"], added["confidence"], added["tags"]) == (True, "Cents.", 1.0, ["money", "db"])
    assert "title: Money is integers" in path.read_text()
    assert path.parent == person.project / ".lerim" / "memory" / "decisions"
    again = person.memory("add", "Money is integers", "--body", "Cents.", "--kind", "decision")
    assert (again["added"], again["memory_id"]) == (False, added["memory_id"])
    short = added["memory_id"][:6]
    edited = person.memory("edit", short, "--body", "Cents, never floats.", "--confidence", "0.9")
    assert (edited["title"], edited["body"], edited["confidence"]) == ("Money is integers", "Cents, never floats.", 0.9)
    assert "Cents, never floats." in path.read_text()
    gone = person.memory("archive", short, "--reason", "we use decimals now")
    assert (gone["status"], Path(gone["path"]).parts[-3]) == ("archived", "archived")
    assert not path.exists()
    assert person.listed() == []
    assert person.memory("archive", short)["version"] == gone["version"]
    back = person.memory("restore", short)
    assert (back["status"], Path(back["path"])) == ("active", path)
    shown = person.lerim("memory", "show", short, expect=0).stdout
    assert "Cents, never floats." in shown


def test_a_hand_edit_that_was_not_published_yet_is_kept_beside_a_command(person: Person) -> None:
    added = person.memory("add", "Tabs", "--body", "Tabs everywhere.")
    path = Path(added["path"])
    path.write_text(path.read_text().replace("Tabs everywhere.", "Tabs, but not in YAML."))
    edited = person.memory("edit", added["memory_id"], "--title", "Tabs it is")
    assert (edited["title"], edited["body"]) == ("Tabs it is", "Tabs, but not in YAML.")
    path.write_text(path.read_text().replace("Tabs, but not in YAML.", "Spaces after all."))
    clash = person.memory("edit", added["memory_id"], "--body", "Tabs for ever.")
    assert "both are kept" in clash["problems"][0]["problem"]
    assert "Spaces after all." in path.read_text()
    assert "Tabs for ever." in path.with_suffix(".conflict.md").read_text()


def test_wrong_use_is_one_clear_line(person: Person) -> None:
    one = person.memory("add", "One")["memory_id"]
    refused(person.lerim("memory", "add", "T", cwd=person.root), 2, "no registered project", "--project")
    refused(person.lerim("memory", "add", " \n "), 2, "title")
    refused(person.lerim("memory", "edit", "zzz", "--title", "T"), 2, "no memory", "'zzz'")
    refused(person.lerim("memory", "edit", one), 2, "no terminal", "--title")
    refused(person.lerim("memory", "edit", one, "--body", "x" * 70_000), 2, "64 KiB")
    refused(person.lerim("memory", "archive", ""), 2, "no memory")
    refused(person.lerim("memory", "import", "nowhere"), 2, "'nowhere'", "neither")
    assert person.lerim("memory", "add", "T", "--kind", "fact").returncode == 2
    assert person.lerim("memory", "add", "T", "--confidence", "2").returncode == 2
    assert [one["title"] for one in person.listed()] == ["One"]


def test_a_project_that_is_gone_keeps_its_memories_changeable(person: Person) -> None:
    one = person.memory("add", "One")["memory_id"]
    person.lerim("project", "remove", "shop", expect=0)
    done = person.lerim("memory", "archive", one, expect=0)
    assert "its files were not touched" in done.stderr
    assert [found["status"] for found in person.listed("--all")] == ["archived"]


def test_edit_opens_the_editor_on_a_terminal(person: Person) -> None:
    one = person.memory("add", "One", "--body", "Old words.")["memory_id"]
    editor = person.root / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/Old words/New words/; s/title: One/title: Two/' \"$1\"\n")
    editor.chmod(0o755)
    person.env["EDITOR"] = str(editor)
    assert _on_a_terminal(person, "memory", "edit", one) == 0
    (found,) = person.listed()
    assert (found["title"], found["body"]) == ("Two", "New words.")
    editor.write_text("#!/bin/sh\necho '---\nid: [\n---' > \"$1\"\n")
    assert _on_a_terminal(person, "memory", "edit", one) == 2
    assert person.listed() == [found]


def _on_a_terminal(person: Person, *arguments: str) -> int:
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lerim_jobs.cli", *arguments],
        env={**person.env, "TERM": "dumb"},
        cwd=person.project,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
    os.close(terminal)
    return process.wait(60)


def test_exported_and_imported_again_nothing_is_lost_or_doubled(person: Person) -> None:
    for number in range(3):
        person.memory("add", f"Fact {number}", "--body", f"Body {number}.", "--tag", "x", "--confidence", "0.5")
    person.memory("archive", person.listed()[0]["memory_id"])
    lines = person.lerim("memory", "export", "--all", expect=0).stdout.splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0])["project"] == "shop"
    file, folder = person.root / "all.jsonl", person.root / "exported"
    person.lerim("memory", "export", "--all", "--output", str(file), expect=0)
    person.lerim("memory", "export", "--all", "--format", "md", "--output", str(folder), expect=0)
    assert len(list(folder.rglob("*.md"))) == 3
    for target, form in ((file, "jsonl"), (folder, "md")):
        refused(person.lerim("memory", "export", "--format", form, "--output", str(target)), 2, "exists")
    assert person.memory("import", str(file))["known"] == 3
    before = [
        {key: one[key] for key in ("memory_id", "title", "body", "confidence", "tags", "status")}
        for one in person.listed("--all")
    ]
    for source in (file, folder):
        other = Person(_made(person.root / f"other-{source.name}"))
        dry = other.memory("import", str(source), "--dry-run")
        assert (dry["added"], other.listed("--all")) == (3, [])
        assert other.memory("import", str(source))["added"] == 3
        assert other.memory("import", str(source))["known"] == 3
        after = [{key: one[key] for key in before[0]} for one in other.listed("--all")]
        assert sorted(after, key=str) == sorted(before, key=str)
        paths = [Path(one["path"]) for one in other.listed()]
        assert len(paths) == 2
        assert all(path.is_file() for path in paths)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_folder_with_files_of_another_machine_is_taken_in_where_it_lies(person: Person) -> None:
    person.memory("add", "One", "--body", "Words.")
    other = Person(_made(person.root / "clone"))
    (other.project / ".lerim").mkdir()
    os.rename(person.project / ".lerim" / "memory", other.project / ".lerim" / "memory")
    (file,) = (other.project / ".lerim" / "memory").rglob("*.md")
    assert other.memory("import", ".lerim/memory")["added"] == 1
    (found,) = other.listed()
    assert (found["memory_id"], Path(found["path"]), found["body"]) == (person.listed()[0]["memory_id"], file, "Words.")
    assert list((other.project / ".lerim" / "memory").rglob("*.md")) == [file]


def test_import_counts_what_it_cannot_read_and_keeps_what_is_here(person: Person) -> None:
    one = person.memory("add", "One", "--body", "Words.")["memory_id"]
    file = person.root / "in.jsonl"
    lines: list[Any] = [
        {"title": "Two", "body": "B"},
        {"title": "Two", "body": "B"},
        {"title": "One", "body": "Other words.", "memory_id": one},
        {"body": "no title"},
        {"title": "T", "kind": "fact"},
        {"title": "T", "memory_id": "../x"},
        {"title": "T", "confidence": 7},
        {"title": ["T"]},
        [1],
    ]
    file.write_bytes(b"\n".join([*(json.dumps(line).encode() for line in lines), b"\xff\xfe", b"{", b""]))
    done = person.memory("import", str(file))
    assert {key: done[key] for key in ("added", "known", "different", "unreadable")} == {
        "added": 1,
        "known": 1,
        "different": 1,
        "unreadable": 8,
    }
    assert sorted(found["title"] for found in person.listed()) == ["One", "Two"]
    folder = person.root / "notes"
    folder.mkdir()
    (folder / "plain.md").write_text("# A note\n\nWith words.")
    (folder / "broken.md").write_text("---\ntitle: [\n---\n")
    (folder / "binary.md").write_bytes(b"\0\1")
    (folder / "link.md").symlink_to("/etc/hostname")
    done = person.memory("import", str(folder))
    assert (done["added"], done["unreadable"]) == (1, 2)
