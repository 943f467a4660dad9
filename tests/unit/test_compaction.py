"""What a model is shown of tools and of an agent that waits."""

from __future__ import annotations

from typing import cast

from lerim_jobs.sessions.compaction import compact, shortened
from lerim_jobs.sessions.transcript import PRINTED, Speaker, Turn, render
from lerim_jobs.sessions.windows import cut

HOME = "/srv/shop"


def turns(*said: tuple[str, str]) -> list[Turn]:
    return [Turn(n, cast("Speaker", speaker), text, f"{n:016x}") for n, (speaker, text) in enumerate(said)]


def shown(*said: tuple[str, str]) -> str:
    return render(compact(turns(*said), HOME))


def test_a_call_is_shown_by_its_values_with_paths_of_the_project() -> None:
    edit = '{"replace_all": false, "file_path": "/srv/shop/app/cart.py", "old_string": "a = 1", "new_string": "a = 2"}'
    assert shown(("tool", f"Edit: {edit}")) == "Tool: Edit: app/cart.py"
    assert shown(("tool", 'Bash: {"command": "pytest -q \\"tests/unit\\"", "timeout": 60}')) == (
        'Tool: Bash: pytest -q "tests/unit"'
    )
    assert (
        shown(("tool", 'shell: {"command": ["bash", "-lc", "ls /srv/shop"], "workdir": "/srv/shop"}'))
        == "Tool: shell: ls"
    )


def test_a_call_that_was_cut_off_keeps_what_is_there() -> None:
    assert shown(("tool", 'Write: {"file_path": "/srv/shop/notes.md", "content": "# Not')) == "Tool: Write: notes.md"
    assert shown(("tool", 'Bash: {"command": "echo \\')) == "Tool: Bash: echo"


def test_a_neighbour_of_the_project_keeps_its_path() -> None:
    assert shown(("tool", 'Read: {"file_path": "/srv/shopping/list.txt"}')) == "Tool: Read: /srv/shopping/list.txt"


def test_calls_in_a_row_are_one_turn_and_a_repeated_one_is_shown_once() -> None:
    read = ("tool", 'Read: {"file_path": "/srv/shop/a.py"}')
    other = ("tool", 'Read: {"file_path": "/srv/shop/b.py"}')
    assert shown(read, read, other) == "Tool: Read: a.py\n  Read: b.py"


def test_what_a_tool_printed_stays_as_it_is_and_parts_the_calls() -> None:
    read = ("tool", 'Read: {"file_path": "/srv/shop/a.py"}')
    failed = ("tool", PRINTED + '{"path": "/srv/shop/a.py"} is missing')
    assert shown(read, failed, read) == (
        'Tool: Read: a.py\n\nTool: error: {"path": "/srv/shop/a.py"} is missing\n\nTool: Read: a.py'
    )


def test_waiting_is_told_once_until_the_user_speaks() -> None:
    wait = [("assistant", f"The suite is still running ({n} %), so I wait for it.") for n in (10, 40, 90)]
    done = ("assistant", "All tests pass; the cart keeps its currency now.")
    text = shown(*wait, done, ("user", "run it again"), wait[0])
    assert "90 %" in text
    assert text.count("still running") == 2
    assert "All tests pass" in text


def test_users_say_things_twice() -> None:
    again = ("user", "yes, do that")
    assert shown(again, ("assistant", "Done."), again).count("yes, do that") == 2


def test_short_answers_that_differ_stay() -> None:
    text = shown(("assistant", "Use Redis for the cache."), ("assistant", "Use Postgres for the orders."))
    assert "Redis" in text
    assert "Postgres" in text


def test_questions_of_the_agent_stay_however_alike() -> None:
    text = shown(("assistant", "Shall I use Redis for it?"), ("assistant", "Shall I use Postgres for it?"))
    assert text.count("Shall I use") == 2


def test_windows_are_cut_by_what_is_shown() -> None:
    frame = '{"replace_all": false, "old_string": "' + "x" * 90 + '", "file_path": "/srv/shop/a.py"}'
    many = turns(*[("tool", f"Edit: {frame}") for _ in range(40)])
    assert len(cut(many, max_tokens=400, overlap_tokens=0, cwd=HOME)) < len(
        cut([Turn(one.n, "assistant", one.text, one.key) for one in many], max_tokens=400, overlap_tokens=0)
    )


def test_a_turn_of_another_speaker_is_never_shortened() -> None:
    turn = turns(("user", 'Edit: {"file_path": "/srv/shop/a.py"}'))[0]
    assert shortened(turn, HOME) is turn
