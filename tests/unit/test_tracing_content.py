"""Secrets never leave; content leaves only when it may."""

from __future__ import annotations

import pytest

from lerim_jobs.tracing.content import error_frames, is_secret_key, mask, record_error, redacted


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdef1234567890",
        "sk-ant-api03-abcdefgh",
        "Bearer abcdef.123456",
        "ghp_abcdefghijklmnopqrstuvwxyz0123",
        "AKIAABCDEFGHIJKLMNOP",
        "xoxb-1234567890-abc",
        "pylf_v1_us_abcdefgh12345678",
        '"api_key": "hunter2hunter2"',
        r"{\"x-api-key\": \"hunter2hunter2\"}",
    ],
)
def test_secrets_are_masked_wherever_they_stand(secret: str) -> None:
    masked = mask(f"before {secret} after")
    assert "[REDACTED]" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert not any(part in masked for part in ("1234", "hunter2", "abcdefgh", "ABCDEF"))


@pytest.mark.parametrize(
    "text", ["the session's auth flow", "task-sk-1", "bearer certificates", "a risk-averse author"]
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert mask(text) == text


def test_secret_keys_are_known_by_name() -> None:
    assert is_secret_key("http.request.header.authorization")
    assert is_secret_key("x-api-key")
    assert not is_secret_key("gen_ai.conversation.id")
    assert not is_secret_key("lerim.session")


def test_redacted_keeps_nothing_as_nothing() -> None:
    assert redacted("prompt", True) == "prompt"
    assert redacted("prompt", False) == "[REDACTED]"
    assert redacted("", False) == ""
    assert redacted(None, False) is None


class FakeSpan:
    """Records what a span is told."""

    def __init__(self) -> None:
        self.attributes: dict[str, object] = {}
        self.events: list[tuple[str, dict[str, object]]] = []
        self.status = ""

    def set_attribute(self, key: str, value: object) -> None:
        self.attributes[key] = value

    def add_event(self, name: str, attributes: dict[str, object]) -> None:
        self.events.append((name, attributes))

    def set_status(self, status: object) -> None:
        self.status = str(getattr(status, "description", ""))


def raised() -> ValueError:
    try:
        raise ValueError("marker prompt with sk-abcdef1234567890")
    except ValueError as exc:
        return exc


def test_error_without_content_has_type_and_frames_only() -> None:
    span = FakeSpan()
    record_error(span, raised(), include_content=False)  # type: ignore[arg-type]  # only these methods are used
    assert "marker" not in str((span.attributes, span.events[0][1].get("exception.message"), span.status))
    assert span.events[0][1]["exception.type"] == "ValueError"
    assert "raised" in str(span.events[0][1]["exception.stacktrace"])
    assert span.status == "ValueError"


def test_error_with_content_still_hides_keys() -> None:
    span = FakeSpan()
    record_error(span, raised(), include_content=True)  # type: ignore[arg-type]  # as above
    assert span.status == "ValueError: marker prompt with [REDACTED]"
    assert span.events[0][1]["exception.message"] == "marker prompt with [REDACTED]"


def test_a14_swallowed_errors_are_counted_and_leave_the_status() -> None:
    span = FakeSpan()
    for _ in range(2):
        record_error(span, raised(), include_content=True, swallowed=True)  # type: ignore[arg-type]  # as above
    assert span.attributes == {"lerim.swallowed_errors": 2}
    assert (len(span.events), span.status) == (2, "")


def test_frames_show_no_home_folder() -> None:
    (frame,) = error_frames(raised())
    assert frame.startswith("tests/unit/test_tracing_content.py:")
    assert frame.endswith(" raised")
