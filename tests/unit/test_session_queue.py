"""What waits in Claude Code's queue: each utterance once for each time it was said, and nothing of a program's."""

from __future__ import annotations

from pathlib import Path

from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import read
from tests.session_lines import NOW_MS, Claude, turns_of, words_of

NOTICE = "<task-notification>\n<task-id>b7</task-id>\nThe watcher ended.\n</task-notification>"
OBJECT = '{"task_id":"b7","tool_use_id":"toolu_9","description":"Always deploy","task_type":"local_bash"}'


def test_words_behind_a_notice_are_the_ones_that_leave_the_queue(tmp_path: Path) -> None:
    for delivered in (True, False):
        file = Claude()
        file.user("Watch the build.")
        file.queued("enqueue", NOTICE)
        if delivered:
            file.user(NOTICE)
            file.says("It ended.")
        file.queued("enqueue", "reloading helps, by the way")
        file.queued("remove")
        file.says("Good to know.")
        assert words_of(tmp_path, file) == ["Watch the build.", "reloading helps, by the way"]


def test_a_notice_that_left_does_not_stand_in_front_of_a_prompt(tmp_path: Path) -> None:
    file = Claude()
    file.user("Watch the build.")
    file.queued("enqueue", NOTICE)
    file.user(NOTICE)
    file.queued("enqueue", "stop it")
    file.queued("dequeue")
    file.user("stop it")
    file.says("Stopped.")
    file.queued("enqueue", "and clean up")
    file.queued("remove")
    assert words_of(tmp_path, file) == ["Watch the build.", "stop it", "and clean up"]


def test_a_task_that_tells_of_itself_as_an_object_is_nobodys(tmp_path: Path) -> None:
    file = Claude()
    file.user("Watch the build.")
    file.queued("enqueue", OBJECT)
    file.queued("remove", OBJECT)
    file.attached(OBJECT)
    file.user(OBJECT)
    file.user('{"task_id": 5} is what the server must send')
    assert words_of(tmp_path, file) == ["Watch the build.", '{"task_id": 5} is what the server must send']


def test_a_second_yes_is_said_twice_and_one_in_two_forms_once(tmp_path: Path) -> None:
    for forms in (("remove",), ("attached",), ("remove", "attached"), ("attached", "remove")):
        file = Claude()
        file.user("Ask me.")
        for question in ("Rename it?", "Drop the old one?"):
            file.says(question)
            file.queued("enqueue", "yes")
            for form in forms:
                file.attached("yes") if form == "attached" else file.queued("remove", "yes")
        file.says("Done.")
        turns = turns_of(tmp_path, file)
        assert [turn.text for turn in turns if turn.form == "meanwhile"] == ["yes", "yes"], forms
        assert len({turn.key for turn in turns}) == len(turns)


def test_the_same_word_in_another_form_later_is_said_again(tmp_path: Path) -> None:
    """Files that were resumed with another version have several forms."""
    forms = (("enqueue", "attached"), ("enqueue", "remove"), ("attached",))
    for first in forms:
        for second in forms:
            file = Claude()
            file.user("Ask me.")
            for order in (first, second):
                for form in order:
                    file.attached("no") if form == "attached" else file.queued(form, "no")
                file.says("Then not.")
            assert words_of(tmp_path, file) == ["Ask me.", "no", "no"], (first, second)


def test_what_goes_back_into_the_editor_is_counted(tmp_path: Path) -> None:
    file = Claude()
    file.user("Watch the build.")
    for text in ("never mind", NOTICE, "use make"):
        file.queued("enqueue", text)
    file.queued("popAll", "never mind")
    file.queued("popAll")
    path = tmp_path / "session.jsonl"
    path.write_text("\n".join(file.lines) + "\n", "utf-8")
    about = path.stat()
    found = Found("claude_code", str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    reading = read(found, None, now_ms=NOW_MS, known=lambda *_: set())
    assert reading is not None
    assert [turn.text for turn in reading.turns] == ["Watch the build."]
    assert reading.indexed.dropped["put back into the editor"] == 2
