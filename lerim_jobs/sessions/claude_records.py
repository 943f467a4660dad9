"""Records of a Claude Code transcript as the decoder builds them: the fields that matter, nothing else, and large ones raw."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Block", "Message", "Record", "attached_prompt", "by_a_person", "decoder", "plain", "tidy", "value"]

_NONE = msgspec.Raw(b"null")


class Block(msgspec.Struct, frozen=True, gc=False):
    """A part of a message."""

    type: str | None = None
    text: str | None = None
    id: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    is_error: Any = None
    input: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE


class Message(msgspec.Struct, frozen=True, gc=False):
    """What was said to or by the model."""

    model: Any = None
    content: str | list[Block] | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One object of a line; everything else in it is passed over without being built."""

    type: str | None = None
    uuid: str | None = None
    parentUuid: str | None = None
    sessionId: str | None = None
    timestamp: Any = None
    cwd: str | None = None
    gitBranch: str | None = None
    isSidechain: Any = None
    isMeta: Any = None
    isCompactSummary: Any = None
    isApiErrorMessage: Any = None
    customTitle: Any = None
    aiTitle: Any = None
    summary: Any = None
    message: Message | None = None
    worktreeSession: Any = None
    operation: Any = None
    content: msgspec.Raw = _NONE
    attachment: msgspec.Raw = _NONE
    origin: msgspec.Raw = _NONE
    promptSource: Any = None
    toolDenialKind: Any = None
    toolUseResult: msgspec.Raw = _NONE


class _Origin(msgspec.Struct, frozen=True, gc=False):
    kind: Any = None


class _Attachment(msgspec.Struct, frozen=True, gc=False):
    type: Any = None
    prompt: msgspec.Raw = _NONE
    commandMode: Any = None
    origin: msgspec.Raw = _NONE
    isMeta: Any = None


_TEXTS = ("type", "uuid", "parentUuid", "sessionId", "cwd", "gitBranch")
_BLOCK_TEXTS = ("type", "text", "id", "name", "tool_use_id")
decoder = msgspec.json.Decoder(Record)
_attachment = msgspec.json.Decoder(_Attachment)
_origin = msgspec.json.Decoder(_Origin)


def tidy(record: dict[str, Any]) -> dict[str, Any]:
    """A record of another shape: texts that are none, a message that is a bare string, blocks that are strings or unknown."""
    record = _with_texts(record, _TEXTS)
    message = record.get("message")
    if isinstance(message, str):
        message = {"content": message}
    if not isinstance(message, dict):
        return {**record, "message": None}
    content = message.get("content")
    if isinstance(content, list):
        content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        content = [_with_texts(part, _BLOCK_TEXTS) for part in content if isinstance(part, dict)]
    elif not isinstance(content, str):
        content = None
    return {**record, "message": {**message, "content": content}}


def _with_texts(found: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: None if key in names and not isinstance(value, str) else value for key, value in found.items()}


def value(raw: msgspec.Raw) -> Any:
    """What a raw field holds; None for what cannot be read."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def plain(raw: msgspec.Raw) -> str:
    """A text, or the texts of blocks, such as a tool's result."""
    found = value(raw)
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return "\n".join(part["text"] for part in found if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""


def by_a_person(record: Record) -> bool:
    """Whether the record does not say that somebody else than a person wrote it."""
    return record.promptSource != "system" and _human(record.origin)


def attached_prompt(record: Record) -> str | None:
    """What a person typed into the queue, from the attachment that says so; None for any other attachment."""
    if b"queued_command" not in bytes(record.attachment):
        return None
    try:
        found = _attachment.decode(record.attachment)
    except (msgspec.DecodeError, RecursionError):
        return None
    mine = found.type == "queued_command" and found.commandMode in (None, "prompt") and found.isMeta is not True
    return plain(found.prompt) if mine and _human(found.origin) else None


def _human(origin: msgspec.Raw) -> bool:
    if origin is _NONE:
        return True
    try:
        return _origin.decode(origin).kind in (None, "human")
    except (msgspec.DecodeError, RecursionError):
        return True
