"""Sessions made of every form in which people speak and programs write, for hypothesis; what people said in them is known.

A session is a list of moves. What a person says begins with no mark; everything that programs write holds `FOREIGN`.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from tests.session_lines import Claude, Codex

__all__ = ["CLAUDE_MOVES", "CODEX_MOVES", "FOREIGN", "Move", "claude_session", "codex_session", "moves"]

FOREIGN = "QX-FOREIGN-QX"
"""Stands in every text that no person said."""
NOTICE = f"<task-notification>\n<task-id>b1</task-id>\n{FOREIGN}\n</task-notification>"
REMINDER = f"<system-reminder>\n{FOREIGN}\n</system-reminder>"
REFUSED = "The user doesn't want to proceed with this tool use. To tell you how to proceed, the user said:\n"
PLAN = f"1. {FOREIGN}\n2. And then the rest of {FOREIGN}."
AGENTS_FILE = f"# AGENTS.md instructions for /srv\n\n<INSTRUCTIONS>\n{FOREIGN}\n</INSTRUCTIONS>"
PLACE = f"<environment_context>\n  <cwd>/srv</cwd>\n  {FOREIGN}\n</environment_context>"

Move = tuple[str, str]
"""The name of a form, and what the person says in it."""

_WORDS = st.lists(
    st.sampled_from("use tabs not spaces in the cart, please отступы 不要 é #2 $x 5".split()), min_size=1, max_size=9
)
_SAID = st.one_of(st.sampled_from(["yes", "no", "2", "yes, do that"]), _WORDS.map(" ".join))


def moves(of: dict[str, Callable[..., list[str]]]) -> st.SearchStrategy[list[Move]]:
    """Lists of moves by their names."""
    return st.lists(st.tuples(st.sampled_from(sorted(of)), _SAID), max_size=12)


def claude_session(steps: list[Move]) -> tuple[Claude, list[str]]:
    """The file, and what people said in it, in order."""
    file, said = Claude(), []
    file.user("Begin.")
    file.says("I begin.")
    for n, (name, text) in enumerate(_unlike(steps)):
        said += CLAUDE_MOVES[name](file, text, f"toolu_{n}")
        file.says(f"Step {n} {FOREIGN} is done.")
    return file, ["Begin.", *said]


def codex_session(steps: list[Move]) -> tuple[Codex, list[str]]:
    """The file, and what people said in it, in order."""
    file, said = Codex(), []
    file.prompt("Begin.")
    file.says("I begin.")
    for n, (name, text) in enumerate(_unlike(steps)):
        said += CODEX_MOVES[name](file, text, f"call_{n}")
        file.says(f"Step {n} {FOREIGN} is done.")
    return file, ["Begin.", *said]


def _unlike(steps: list[Move]) -> list[Move]:
    """With long texts that differ: one that stands in several kinds of records is one."""
    return [(name, f"{text} {n}" if len(text) > 30 else text) for n, (name, text) in enumerate(steps)]


def _prompt(file: Claude, text: str, call: str) -> list[str]:
    file.user(text, origin={"kind": "human"})
    return [text]


def _tagged(file: Claude, text: str, call: str) -> list[str]:
    file.user(f"{REMINDER}\n{text}\n{REMINDER}")
    return [text]


def _blocks(file: Claude, text: str, call: str) -> list[str]:
    file.user([{"type": "text", "text": REMINDER}, {"type": "text", "text": text}, {"type": "image", "source": {}}])
    return [text]


def _command(file: Claude, text: str, call: str) -> list[str]:
    file.user(
        f"<command-message>{FOREIGN}</command-message>\n<command-name>/{FOREIGN}</command-name>\n<command-args>{text}</command-args>"
    )
    file.user(f"Base directory for this skill: /x\n\n{FOREIGN}", isMeta=True)
    return [text]


def _programs(file: Claude, text: str, call: str) -> list[str]:
    file.user(NOTICE)
    file.user(FOREIGN, isMeta=True)
    file.user(FOREIGN, isCompactSummary=True)
    file.user(FOREIGN, isSidechain=True)
    file.user(FOREIGN, origin={"kind": "task-notification"})
    file.user(f"<local-command-stdout>{FOREIGN}</local-command-stdout>")
    file.user(f'<teammate-message teammate_id="a">{FOREIGN}</teammate-message>')
    file.add("progress", data={"output": FOREIGN})
    file.add("attachment", attachment={"type": "hook_success", "content": FOREIGN})
    file.attached(FOREIGN, commandMode="task-notification")
    return []


def _tool(file: Claude, text: str, call: str) -> list[str]:
    file.calls("Bash", call, command=FOREIGN)
    file.result(f'User has answered your questions: "{FOREIGN}"="{FOREIGN}".', call, toolUseResult={"stdout": FOREIGN})
    return []


def _failed(file: Claude, text: str, call: str) -> list[str]:
    file.calls("Bash", call, command=FOREIGN)
    file.result(f"Exit code 1\nthe user said:\n{FOREIGN}", call, error=True)
    return []


def _beside(file: Claude, text: str, call: str) -> list[str]:
    file.calls("Bash", call, command=FOREIGN)
    file.result(FOREIGN, call, REMINDER, text)
    return [text]


def _answer(file: Claude, text: str, call: str) -> list[str]:
    question = f"What of {FOREIGN}?"
    file.calls("AskUserQuestion", call, questions=[{"question": question, "options": [{"label": FOREIGN}]}])
    copy = {"questions": [{"question": question}], "answers": {question: text}}
    file.result(f'User has answered your questions: "{question}"="{text}".', call, toolUseResult=copy)
    return [text]


def _printed_answer(file: Claude, text: str, call: str) -> list[str]:
    question = f"What of {FOREIGN}?"
    file.calls("AskUserQuestion", call, questions=[{"question": question, "options": []}])
    file.result(
        f'User has answered your questions: "{question}"="{text}". You can now continue with the user\'s answers in mind.',
        call,
    )
    return [text]


def _rejection(file: Claude, text: str, call: str) -> list[str]:
    file.calls("Write", call, content=FOREIGN)
    file.result(f"{REFUSED}{text}", call, error=True)
    return [text]


def _plan(file: Claude, text: str, call: str) -> list[str]:
    file.calls("ExitPlanMode", call, plan=PLAN)
    file.result(f"User has approved your plan.\n\n## Approved Plan:\n{PLAN}", call, toolUseResult={"plan": PLAN})
    return ["Approved the plan."]


def _queued(*forms: str) -> Callable[[Claude, str, str], list[str]]:
    def move(file: Claude, text: str, call: str) -> list[str]:
        for form in forms:
            if form == "attached":
                file.attached(text)
            elif form == "user":
                file.user(text)
            elif form == "notice":
                file.queued("enqueue", NOTICE)
                file.user(NOTICE)
            elif form == "remove unnamed":
                file.queued("remove")
            else:
                file.queued(form, text)
        return [] if "popAll" in forms else [text]

    return move


CLAUDE_MOVES: dict[str, Callable[[Claude, str, str], list[str]]] = {
    "answer": _answer,
    "answer as printed": _printed_answer,
    "beside": _beside,
    "blocks": _blocks,
    "command": _command,
    "failed": _failed,
    "plan": _plan,
    "programs": _programs,
    "prompt": _prompt,
    "queued: attached": _queued("attached"),
    "queued: attached and removed": _queued("enqueue", "attached", "remove"),
    "queued: back in the editor": _queued("enqueue", "popAll"),
    "queued: dequeued": _queued("enqueue", "dequeue", "user"),
    "queued: removed": _queued("enqueue", "remove"),
    "queued: removed and attached": _queued("enqueue", "remove", "attached"),
    "queued: removed behind a notice": _queued("notice", "enqueue", "remove unnamed"),
    "rejection": _rejection,
    "tagged": _tagged,
    "tool": _tool,
}


def _written(*forms: str) -> Callable[[Codex, str, str], list[str]]:
    def move(file: Codex, text: str, call: str) -> list[str]:
        for form in forms:
            if form == "event":
                file.event(text)
            elif form == "completed":
                file.completed(text)
            elif form == "parts":
                file.item(AGENTS_FILE, PLACE, text)
            else:
                file.item(text)
        return [text]

    return move


def _codex_programs(file: Codex, text: str, call: str) -> list[str]:
    for one in (AGENTS_FILE, PLACE, f"<skill>\n{FOREIGN}\n</skill>", f"<turn_aborted>\n{FOREIGN}\n</turn_aborted>"):
        file.item(one)
    file.item(FOREIGN, role="developer")
    file.add(
        "compacted", message=FOREIGN, replacement_history=[{"type": "message", "role": "user", "content": FOREIGN}]
    )
    file.add("event_msg", type="exec_command_end", aggregated_output=FOREIGN)
    return []


def _codex_tool(file: Codex, text: str, call: str) -> list[str]:
    file.calls("shell", call, {"command": [FOREIGN]})
    file.output(call, {"answers": {"a": {"answers": [FOREIGN]}}})
    file.calls("shell", f"{call}b", {"command": [FOREIGN]})
    file.output(f"{call}b", f"Exit code: 1\n{FOREIGN}")
    return []


def _codex_answer(file: Codex, text: str, call: str) -> list[str]:
    file.calls("request_user_input", call, {"questions": [{"id": "a", "question": FOREIGN, "options": []}]})
    file.output(call, {"answers": {"a": {"answers": [text]}}})
    return [text]


def _editor(file: Codex, text: str, call: str) -> list[str]:
    whole = f"# Context from my IDE setup:\n\n## Open tabs: {FOREIGN}\n\n## My request for Codex:\n{text}"
    file.item(whole)
    file.event(whole)
    return [text]


CODEX_MOVES: dict[str, Callable[[Codex, str, str], list[str]]] = {
    "all three": _written("item", "event", "completed"),
    "answer": _codex_answer,
    "editor": _editor,
    "event": _written("event"),
    "event first": _written("event", "item"),
    "item": _written("item"),
    "item first": _written("item", "event"),
    "parts": _written("parts", "event"),
    "programs": _codex_programs,
    "tool": _codex_tool,
}
