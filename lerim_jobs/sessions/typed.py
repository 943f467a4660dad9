"""What a person typed in a text that an agent's program wrote into the user's place.

Programs put tags around, before and behind the user's words: reminders, hook output, what the editor shows, other agents'
messages, the result of a shell command. A tag goes with all it holds; the words beside it stay. Pictures pasted as text
become a mark.
"""

from __future__ import annotations

import re
import string
from typing import NamedTuple

from lerim_jobs.sessions.transcript import Form

__all__ = ["PICTURE", "Said", "bare", "typed", "without_encoded", "without_pictures"]

PICTURE = "[picture]"
"""Stands where a picture was pasted as text."""
_DATA = "[data]"
_UNSEEN = string.whitespace + "\x00\x85\xa0\u200b\u200e\u200f\u2028\u2029\u2060\u3000\ufeff\ufffd"
_LONG_CHARS, _SOLID_CHARS = 256, 60


class Said(NamedTuple):
    """Words of a person, without white space around them, and how they were said."""

    text: str
    form: Form = ""


_WHOLE = re.compile(
    r"Caveat: the messages below\b"
    r"|This session is being continued from a previous conversation\b"
    r"|Base directory for this skill\b"
    r"|System: Please continue\."
    r"|\[SYSTEM NOTIFICATION\b"
    r'|\{"task_id":"[^"]*",(?=.*"(?:task_type|tool_use_id)":).*\}\s*\Z',
    re.IGNORECASE | re.DOTALL,
)
"""A text that begins so is nobody's word, to its end."""
_AGENTS_FILE = re.compile(r"#+ AGENTS\.md(?: instructions\b|[ \t]*(?:\n|\Z))")
_AGENTS_END = "</INSTRUCTIONS>"
_INTERRUPTED = re.compile(r"^[ \t]*\[Request interrupted by user[^\]\n]*\][ \t]*$", re.MULTILINE)
_TOOLS = (
    r"[a-z][\w-]*[-_](?:hook|notification|reminder|instructions|caveat|diagnostics)"
    r"|command-(?:name|message|contents)|local-command-(?:stdout|stderr)|bash-(?:input|stdout|stderr)"
    r"|ide_(?:selection|opened_file)|teammate-message|agent-message|cross-session-message|peer-message|channel|tick"
    r"|fork-boilerplate|mcp-(?:resource|polling)-update|system_instruction|total_tokens|persisted-output|tool_use_error"
    r"|environment_context|INSTRUCTIONS|turn_aborted|skill|user_shell_command|recommended_plugins|plugins|permissions"
    r"|collaboration_mode|model_switch|personality_spec|goal_context|hook_prompt|realtime_conversation"
    r"|current_datetime|image"
)
_TAG = re.compile(rf"<(/)?({_TOOLS})(?:\s[^<>]{{0,2000}})?/?>")
_TASK = re.compile(r"^(?:Read the output file to retrieve the result|Full transcript available at): .*$", re.MULTILINE)
"""What stands behind the notice that a task has ended."""
_WRAPPED = re.compile(r"</?(?:user-memory-input|user_query|USER_REQUEST)>")
_COMMAND = re.compile(r"\s*<command-(?:name|message|args)>")
_ARGS = re.compile(r"<command-args>(.*)</command-args>", re.DOTALL)
_DATA_URL = re.compile(
    r"data:(image/)?[\w.+/-]{0,80}(?:;[\w.=-]{1,80}){0,8},(?:[A-Za-z0-9+/=_-]{64,}(?:\s+[A-Za-z0-9+/=_-]{40,})*|[^\s\"')>]{300,})"
)
_SOLID = re.compile(
    rf"[A-Za-z0-9+/_-]{{{_LONG_CHARS},}}={{0,2}}"
    r"|(?:[A-Za-z0-9+/]{60,100}\r?\n){4,}(?:(?:[A-Za-z0-9+/]{16,100}={0,2}|[A-Za-z0-9+/]{2,15}={1,2})(?!\S))?"
)


def bare(text: str) -> str:
    """Without white space around it, and without signs in front that nobody sees: they must not hide how it begins."""
    return text.strip().lstrip(_UNSEEN)


def typed(text: str) -> list[Said]:
    """The words a person typed in one text, in order; none when a program wrote all of it."""
    text = bare(text)
    if not text or _WHOLE.match(text):
        return []
    said: list[Said] = []
    if _AGENTS_FILE.match(text):
        text = text.rpartition(_AGENTS_END)[2] if _AGENTS_END in text else ""
    if "<" in text:
        if _COMMAND.match(text) and (given := _ARGS.search(text)):
            said = [Said(words, "command")] if (words := given[1].strip()) else []
            text = text[: given.start()] + "\n" + text[given.end() :]
        noticed = "<task-notification>" in text
        text = _without_tags(_WRAPPED.sub("", text))
        if noticed:
            text = _TASK.sub("", text)
    if "[Request interrupted" in text:
        text = _INTERRUPTED.sub("", text)
    text = text.strip()
    return [*said, Said(text)] if text else said


def without_pictures(text: str) -> str:
    """The text with marks in place of pictures and other files that were pasted into it as text."""
    if len(text) < _LONG_CHARS or "data:" not in text:
        return text
    return _DATA_URL.sub(lambda found: PICTURE if found[1] else _DATA, text)


def without_encoded(text: str) -> str:
    """The text with marks in place of encoded bytes that nothing names. Comes after redaction: keys look like them."""
    if len(text) < _LONG_CHARS or max(map(len, text.split()), default=0) < _SOLID_CHARS:
        return text
    return _SOLID.sub(_or_words, text)


def _without_tags(text: str) -> str:
    """Without the tags of programs and what they hold.

    What a tag holds may say the closing tag, too: a tag that is closed twice ends the second time. One that is never closed
    counts only at the beginning of a line, and then to the end.
    """
    tags = list(_TAG.finditer(text))
    closers = {tag[2]: tag.start() for tag in tags if tag[1]}
    gone: list[tuple[int, int]] = []
    held: dict[str, int] = {}
    """A name -> which of `gone` it closed last."""
    inside = ""
    for tag in tags:
        name = tag[2]
        if tag[1] and (name == inside or (not inside and name in held)):
            first = gone[held[name]][0] if not inside else gone.pop()[0]
            del gone[held[name] if not inside else len(gone) :]
            held = {one: at for one, at in held.items() if at < len(gone)} | {name: len(gone)}
            gone.append((first, tag.end()))
            inside = ""
        elif inside or tag[1]:
            continue
        elif closers.get(name, -1) > tag.start():
            gone.append((tag.start(), tag.end()))
            inside = name
        elif tag[0].endswith("/>") or name == "image":
            gone.append((tag.start(), tag.end()))
        elif not text[max(0, text.rfind("\n", 0, tag.start())) : tag.start()].strip():
            gone.append((tag.start(), len(text)))
            break
    kept, at = [], 0
    for first, end in gone:
        kept.append(text[at:first])
        at = end
    return "".join([*kept, text[at:]])


def _or_words(found: re.Match[str]) -> str:
    """A mark, unless it may be words or a path: encoded bytes have letters of both cases and digits, and few slashes."""
    run = found[0]
    sample = run[:4096]
    encoded = any(map(str.isdigit, sample)) and sample.lower() != sample and sample.upper() != sample
    mark = f"{PICTURE}\n" if run.endswith("\n") else PICTURE
    return mark if encoded and 10 * sample.count("/") < len(sample) else run
