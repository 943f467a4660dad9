"""Memories as files: stable, git-friendly, and nobody's words are lost."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.config import Decay
from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import (
    Event,
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryMerged,
    MemoryRestored,
    MemoryUpdated,
    Quote,
)
from lerim_jobs.memory.checks import decay
from lerim_jobs.memory.files.markdown import BadFile, Parsed, clean, default_path, one_line, parse, proof, render
from lerim_jobs.memory.files.merging import Content, Merged, content_of, merge, with_theirs
from lerim_jobs.memory.memory import Memory, fold

QUOTE = Quote("we use tabs", "s1", "session-codex-1", "codex", 4, "user", 1_795_000_000_000)
ADDED = MemoryAdded(
    "m123456789", "p", "decision", "Tabs: it is", "We use tabs.", 0.8, ["style"], [QUOTE], "s1", "codex"
)


def history(*events: Event) -> list[Recorded]:
    meta = {"job_id": "j", "trace_id": "t", "span_id": "s"}
    return [
        Recorded(n, str(n), "memory-m123456789", n, type(event).__name__, 1, encode(event), meta, 1_795_000_000_000 + n)
        for n, event in enumerate(events, 1)
    ]


def folded(*events: Event) -> Memory:
    memory = fold(history(ADDED, *events))
    assert memory is not None
    return memory


def test_every_event_has_its_effect() -> None:
    updated = folded(
        MemoryUpdated("m123456789", "New", "Body", 0.9, [], [QUOTE, msgspec.structs.replace(QUOTE, text="more")])
    )
    assert (updated.title, len(updated.quotes), updated.version, updated.job_id) == ("New", 2, 2, "j")
    assert folded(MemoryArchived("m123456789", "old")).status == "archived"
    assert folded(MemoryArchived("m123456789"), MemoryRestored("m123456789")).status == "active"
    merged = folded(MemoryMerged("m123456789", "other"))
    assert (merged.status, merged.merged_into) == ("merged", "other")
    edited = folded(MemoryEdited("m123456789", "Mine", "My words", 1.0))
    assert (edited.title, edited.by_hand, edited.quotes) == ("Mine", True, [QUOTE])


def test_a_file_says_what_it_is_and_reads_back() -> None:
    memory = folded()
    data = render(memory)
    assert data == render(memory)
    found = parse(data)
    assert isinstance(found, Parsed)
    said = (found.memory_id, found.version, found.title, found.body, found.confidence, found.tags)
    assert said == ("m123456789", 1, "Tabs: it is", "We use tabs.", 0.8, ["style"])
    assert (found.kind, found.status, found.proof) == ("decision", "active", proof(memory).partition("-->\n")[2])
    text = data.decode()
    assert "> we use tabs" in text
    assert "job: j" in text
    assert default_path(memory) == "decisions/20261118-tabs-it-is-m1234567.md"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("---\nid: x\n", 1),
        ("---\nid: x\ntitle: [\n---\n", 3),
        ("---\n- a\n---\n", 2),
        ("---\nid: x\ntitle: y\nconfidence: high\ntags: []\nversion: 1\n---\n", 4),
        ("---\nid: x\ntitle: y\nconfidence: 7\ntags: []\nversion: 1\n---\n", 4),
        ("---\nid: x\nconfidence: nan\n---\n", 3),
        ("---\nid: ../x\n---\n", 2),
        ("---\nid: x\nversion: " + "9" * 5000 + "\n---\n", 3),
        ("---\nid: x\ntitle: ''\n---\n", 3),
        ("---\nid: x\ntitle: " + "long " * 60 + "\n---\n", 3),
        ("---\nid: x\nkind: fact\n---\n", 3),
        ("---\nid: x\na: &a [x, x]\nb: *a\n---\n", 3),
        ("---\nid: x\nb: *nowhere\n---\n", 3),
        ("---\nid: x\ntags: [[[[[[[[x]]]]]]]]\n---\n", 3),
        ("---\nid: x\ntags: {a: b}\n---\n", 3),
        ("---\nid: x\n? [a]\n: b\n---\n", 3),
        ("---\nid: x\n---\nA\n<<<<<<< HEAD\nB\n", 5),
        ("---\nid: x\ntitle: !!python/object/apply:os.system [ls]\n---\n", 3),
    ],
)
def test_a_broken_file_is_reported_with_its_line(text: str, line: int) -> None:
    found = parse(text.encode())
    assert isinstance(found, BadFile)
    assert found.line == line


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"---\nid: x\n---\n\x00\x01", "not a text file"),
        ("---\nid: x\n---\nwords".encode("utf-16"), "not a text file"),
        (b"---\nid: x\n---\nna\xefve", "not UTF-8"),
        (b"---\nid: x\n---\n" + b"x" * 70_000, "longer than 64 KiB"),
        (b"---\ntitle: " + b"[" * 40_000 + b"\n---\n", "longer than 32 KiB"),
        (b"---\ntitle: " + b"[" * 20_000 + b"\n---\n", "nested"),
    ],
)
def test_odd_bytes_are_refused_and_say_why(data: bytes, problem: str) -> None:
    found = parse(data)
    assert isinstance(found, BadFile)
    assert problem in found.problem


def test_a_yaml_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    assert isinstance(parse(("---\n" + "\n".join(lines) + "\n---\n").encode()), BadFile)


def test_line_ends_byte_order_marks_and_control_characters_are_read_past() -> None:
    memory = folded()
    plain = parse(render(memory))
    windows = b"\xef\xbb\xbf" + render(memory).replace(b"\n", b"\r\n")
    assert parse(windows) == plain
    assert parse(render(memory).replace(b"We use tabs.", b"We use \x1b[31mtabs\x7f.")) != plain
    found = parse(render(memory).replace(b"We use tabs.", b"We use \x1btabs\x7f."))
    assert isinstance(found, Parsed)
    assert found.body == "We use tabs."


def test_every_text_is_a_text_whatever_yaml_thinks() -> None:
    words = ["yes", "2026-01-31", "12:30", "0x1F", "~", "- a", "a: b", "# c", "'", '"', "*x", "a\\b", "☃ 漢字", "1e3"]
    memory = msgspec.structs.replace(folded(), title="null", tags=words)
    found = parse(render(memory))
    assert isinstance(found, Parsed)
    assert (found.title, found.tags) == ("null", words)
    # ... and other readers of the file agree
    import yaml

    front = render(memory).decode().split("---\n")[1]
    assert yaml.safe_load(front)["tags"] == words


PROOF_LINE = "<!-- proof: everything below is written by lerim -->"
MEANT_OTHERWISE = (
    *("<<<<<<< HEAD", ">>>>>>> branch", "=======", "||||||| base", PROOF_LINE, f"{PROOF_LINE} ", "---", "--- ", "..."),
    *("\\<<<<<<< HEAD", "\\\\>>>>>>> branch", f"\\{PROOF_LINE}", "\\", " <<<<<<< HEAD", "<<<<<<<", "<<<<<<<< HEAD"),
    *(
        "> we use tabs",
        ">",
        "# Heading",
        "id: other",
        "title: [",
        "```",
        "- [ ] do",
        "\ufeff",
        "\t",
        "  ",
        "words  ",
        "",
    ),
)
LINES = st.one_of(st.text(max_size=40), st.sampled_from(MEANT_OTHERWISE))
LINE_ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", "\u2028", "\u2029", "\x85", "\x0c", "\x1e", " "])
TEXTS = st.lists(st.tuples(LINES, LINE_ENDS), max_size=8).map(lambda parts: "".join(line + end for line, end in parts))
SAID = st.builds(lambda text, where: msgspec.structs.replace(QUOTE, text=text, session_id=where), TEXTS, LINES)


@settings(deadline=None, max_examples=300)
@given(
    title=TEXTS.map(lambda text: text[:150]).filter(lambda text: one_line(text) != ""),
    body=TEXTS,
    quotes=st.lists(SAID, max_size=3),
    tags=st.lists(LINES, max_size=5),
    confidence=st.floats(0, 1),
)
def test_what_is_written_is_read_back(
    title: str, body: str, quotes: list[Quote], tags: list[str], confidence: float
) -> None:
    memory = msgspec.structs.replace(folded(), title=title, body=body, quotes=quotes, tags=tags, confidence=confidence)
    found = parse(render(memory))
    assert isinstance(found, Parsed), found
    assert (found.title, found.body) == (one_line(title), clean(body).strip())
    assert with_theirs(memory, found) == content_of(memory)
    again = parse(render(memory).replace(b"\n", b"\r\n"))
    assert isinstance(again, Parsed)
    assert with_theirs(memory, again) == content_of(memory)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("<<<<<<< HEAD", "\\<<<<<<< HEAD"),
        (">>>>>>> branch", "\\>>>>>>> branch"),
        ("\\<<<<<<< HEAD", "\\\\<<<<<<< HEAD"),
        (PROOF_LINE, f"\\{PROOF_LINE}"),
        ("<<<<<<<", "<<<<<<<"),
        ("\\n", "\\n"),
    ],
)
def test_lines_that_mean_something_else_get_a_backslash_as_markdown_has_it(said: str, written: str) -> None:
    memory = msgspec.structs.replace(folded(), body=f"Git writes\n{said}\nthere.")
    text = render(memory).decode()
    assert f"\nGit writes\n{written}\nthere.\n" in text
    by_hand = parse(text.replace("there.", "there, or so.").encode())
    assert isinstance(by_hand, Parsed)
    assert with_theirs(memory, by_hand).body == f"Git writes\n{said}\nthere, or so."


def test_what_git_left_in_a_file_is_told_from_words_about_it() -> None:
    memory = msgspec.structs.replace(folded(), body="Never commit\n<<<<<<< HEAD\nanywhere.")
    theirs = "<<<<<<< HEAD\nAnywhere.\n=======\nAt all.\n>>>>>>> side"
    found = parse(render(memory).decode().replace("anywhere.", theirs).encode())
    assert isinstance(found, BadFile)
    assert (found.line, "backslash" in found.problem) == (21, True)


@pytest.mark.parametrize("quotes", [[], [QUOTE]])
def test_a_file_of_an_earlier_version_keeps_the_line_that_opens_our_part_where_it_is_the_memorys_own(
    quotes: list[Quote],
) -> None:
    body = f"Files end with\n\n{PROOF_LINE}\n\nand the quotes."
    memory = msgspec.structs.replace(folded(), body=body, quotes=quotes)
    earlier = render(memory).replace(b"\\<!--", b"<!--")
    for old, new in (("", ""), ("the quotes", "their quotes")):
        found = parse(earlier.decode().replace(old, new).encode())
        assert isinstance(found, Parsed)
        assert with_theirs(memory, found).body == body.replace(old, new)


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_crash_the_reader(data: bytes, has_front: bool) -> None:
    parse(b"---\nid: x\n" + data + b"\n---\nbody" if has_front else data)


@settings(deadline=None)
@given(st.text(alphabet="-:[]{}&*!|>'\"%@`#?, \n\tax0", max_size=120))
def test_no_front_matter_crashes_the_reader(text: str) -> None:
    parse(f"---\n{text}\n---\nbody".encode())


# --- three versions --------------------------------------------------------------------------------
def test_changes_of_different_fields_go_together_and_tags_one_by_one() -> None:
    base = Content("T", "B", 0.5, ["a", "b"], "decision")
    theirs = Content("T", "Mine", 0.5, ["b", "c"], "decision")
    ours = Content("New", "B", 0.9, ["a", "b", "d"], "decision")
    assert merge(base, theirs, ours) == Merged(Content("New", "Mine", 0.9, ["b", "d", "c"], "decision"), [])
    clash = merge(base, theirs, msgspec.structs.replace(ours, body="Ours"))
    assert clash.overlaps == ["body"]
    assert merge(base, theirs, theirs).overlaps == []


def test_words_below_the_proof_join_the_body_and_quotes_stay_what_they_are() -> None:
    memory = folded()
    more = parse(render(memory) + b"\nNot in the legacy code.\n")
    assert isinstance(more, Parsed)
    assert with_theirs(memory, more).body == "We use tabs.\n\nNot in the legacy code."
    forged = parse(render(memory).replace(b"> we use tabs", b"> we use spaces"))
    assert isinstance(forged, Parsed)
    assert with_theirs(memory, forged) == content_of(memory)


# --- decay -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("confidence", "days", "archived"),
    [(0.8, 135, False), (0.8, 136, True), (0.9, 140, False), (0.9, 141, True), (0.1, 30, False), (0.1, 31, True)],
)
def test_decay_follows_the_formula_to_the_day(confidence: float, days: int, archived: bool) -> None:
    memory = msgspec.structs.replace(folded(), confidence=confidence, updated_ms=0, accessed_ms=0)
    found = decay.decide(memory, days * 86_400_000 + 5, Decay())
    assert (found.archive, found.days) == (archived, days)


def test_use_resets_decay_and_it_can_be_switched_off() -> None:
    old = msgspec.structs.replace(folded(), created_ms=0, accessed_ms=170 * 86_400_000)
    assert not decay.decide(old, 180 * 86_400_000, Decay()).archive
    forgotten = msgspec.structs.replace(folded(), created_ms=0, accessed_ms=0)
    assert not decay.decide(forgotten, 900 * 86_400_000, Decay(enabled=False)).archive
    assert decay.effective(0.8, 900, Decay()) == decay.effective(0.8, 162, Decay())
