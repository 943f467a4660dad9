"""Memories in languages other than English: found, compared, named and proved like any other."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lerim_jobs.ids import slug
from lerim_jobs.log.events import MemoryAdded, Quote
from lerim_jobs.memory.checks.batches import batches
from lerim_jobs.memory.checks.checks import Verdict, check
from lerim_jobs.memory.checks.similarity import Said, covered, same_fact, stems
from lerim_jobs.memory.checks.summaries import SessionRef
from lerim_jobs.memory.checks.telling import telling
from lerim_jobs.memory.files.markdown import default_path
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.memory.search import ranking
from lerim_jobs.memory.search.index import Document, SearchIndex
from lerim_jobs.memory.search.vocabulary import kinship
from lerim_jobs.memory.segmentation import searchable
from lerim_jobs.memory.wording import tags
from lerim_jobs.sessions.transcript import Turn
from tests.languages import LANGUAGES, Told

every_language = pytest.mark.parametrize("told", LANGUAGES, ids=[one.language for one in LANGUAGES])


def memory(title: str, body: str = "", memory_id: str = "m") -> Memory:
    return Memory(memory_id, "p", "decision", title, body, 0.8, 1, 1, 1, 1)


def index(*memories: Memory) -> SearchIndex:
    made = SearchIndex(None)
    made.put(map(Document, memories))
    return made


def found(made: SearchIndex, query: str) -> list[str]:
    return [hit.memory_id for hit in made.search(query, limit=20)]


# --- found -----------------------------------------------------------------------------------------
@every_language
def test_what_was_said_is_found_by_its_words_among_those_of_all_languages(told: Told) -> None:
    made = index(*(memory(one.title, one.body, one.language) for one in LANGUAGES), memory("Tabs", "Go files", "x"))
    assert {query: found(made, query)[:1] for query in told.asked} == {query: [told.language] for query in told.asked}


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("データベースの移行", "データベース"),
        ("我们用数据库", "库"),  # the last character of a run is the beginning of no pair
        ("ใช้ฐานข้อมูล", "ฐาน"),
        ("ใช้ฐานข้อมูล", "ล"),
        ("ភាសាខ្មែរ", "ខ្មែរ"),
        ("Café ouvert", "cafe"),
        ("cafe", "Café"),
        ("Schluessel", "Schlüssel"),
        ("Straße", "STRASSE"),
        ("Ångström", "angstrom"),
        ("كِتَابٌ", "الكتاب"),
        ("والمكتبات", "مكتبة"),
        ("ＡＰＩの設計", "api"),
        ("هٰذا ١٢٣", "123"),
        ("Łódź", "lodz"),
        ("שָׁלוֹם עולם", "שלום"),
        ("e\u0301crit", "écrit"),
        ("Konfigurationsdateien", "Konfiguration"),
        ("die Verbindung", "Datenbankverbindung"),
        ("formats the code", "formatter"),
    ],
)
def test_forms_of_a_word_are_one(text: str, query: str) -> None:
    assert found(index(memory(text), memory("Tabs", memory_id="x")), query) == ["m"]


@pytest.mark.parametrize(
    ("text", "query"),
    [("数据", "据数"), ("テスト", "トステ"), ("contract", "contrast"), ("рабочий", "радио"), ("page 12", "page12")],
)
def test_words_that_only_look_alike_are_not(text: str, query: str) -> None:
    assert found(index(memory(text)), query) == []


def test_exact_words_come_before_their_kin() -> None:
    made = index(memory("Formatters", memory_id="kin"), memory("The format", memory_id="exact"))
    assert found(made, "format") == ["exact", "kin"]
    assert kinship("format", "formatt") > kinship("format", "formation") > kinship("format", "fort") == 0


def test_plain_ascii_is_indexed_as_it_is() -> None:
    text = "Some 'quoted' text_with-signs; NEAR(x)"
    assert searchable(text) is text


@example("0\u0300Ä")
@example("Schlüs\u00adsel")
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_is_found_by_itself(text: str) -> None:
    made = index(memory(text), memory("Tabs", memory_id="x"))
    assert "m" in found(made, text) or not ranking.words(text)


# --- compared --------------------------------------------------------------------------------------
@every_language
def test_a_changed_number_or_negation_is_another_fact(told: Told) -> None:
    mine = Said(told.title, told.body)
    assert same_fact(mine, Said(unicodedata.normalize("NFD", told.title), f" {told.body}"))
    for other in told.others:
        assert telling(told.body) != telling(other)
        for title in (told.title, other):
            assert not same_fact(mine, Said(title, other))
            assert not same_fact(Said(title, other), mine)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Use redis, not postgres, for carts", "Use postgres, not redis, for carts"),
        ("用Redis,不要用Postgres", "用Postgres,不要用Redis"),
        ("Keep it for two days in the cache", "Keep it for three days in the cache"),
        ("Wait 10ms before the next try", "Wait 20ms before the next try"),
        ("Es ist schön, dass wir es so lassen", "Es ist schon, dass wir es so lassen"),
    ],
)
def test_what_is_denied_and_counted_tells(one: str, other: str) -> None:
    assert not same_fact(Said(one, one), Said(other, other))
    assert not same_fact(Said(other, other), Said(one, one))


@every_language
def test_a_changed_text_must_be_made_of_its_sources(told: Told) -> None:
    strangers = [one for one in LANGUAGES if one is not told]
    assert covered(f"{told.title} {told.body}", stems(told.said)) >= 0.5
    assert covered(told.body, stems("\n".join(one.said for one in strangers))) < 0.25


def test_text_made_up_in_chinese_is_not_covered_by_single_characters() -> None:
    assert covered("订单服务使用PostgreSQL数据库", stems("我们决定订单服务用PostgreSQL作为数据库")) > 0.6
    assert covered("前端页面每晚重新构建并发布到测试环境", stems("我们决定订单服务用PostgreSQL作为数据库")) < 0.2


def test_relatives_meet_in_one_batch_in_any_language() -> None:
    told = [memory(one.title, one.body, f"{n}a") for n, one in enumerate(LANGUAGES)]
    again = [memory(one.body, one.title, f"{n}b") for n, one in enumerate(LANGUAGES)]
    groups = batches([*told, *again], 2)
    assert sorted(sorted(one.memory_id for one in group) for group in groups) == [
        [f"{n}a", f"{n}b"] for n in range(len(LANGUAGES))
    ]


# --- named -----------------------------------------------------------------------------------------
@every_language
def test_files_are_named_by_their_title(told: Told) -> None:
    path = default_path(memory(told.title, memory_id="abcdef12"))
    assert path == f"decisions/19700101-{told.named}-abcdef12.md"


@given(st.text(), st.integers(min_value=8, max_value=60))
def test_a_slug_is_a_safe_name(text: str, limit: int) -> None:
    name = slug(text, limit=limit)
    assert name
    assert len(name) <= limit
    assert len(name.encode()) <= max(limit * 3 // 2, len("memory"))
    assert all(char == "-" or unicodedata.category(char)[0] in "LNM" for char in name)
    assert not name.startswith("-")
    assert not name.endswith("-")


def test_a_slug_keeps_letters_whole() -> None:
    assert slug("数" * 40) == "数" * 30
    assert slug("ก" * 6 + "กั้น", limit=8) == "ก" * 4  # 12 bytes: no letter is cut from its signs
    assert slug("ก" * 3 + "กั้น", limit=10) == "ก" * 3
    assert slug("E\u0301CRIT") == "écrit"
    assert slug("\u202etxt.exe/..\\a") == "txt-exe-a"
    assert tags(["数据库", "データ", "数据库"]) == ["数据库", "データ"]


# --- proved ----------------------------------------------------------------------------------------
def judged(candidates: Sequence[Candidate], *said: str, memories: Sequence[Memory] = ()) -> Verdict:
    return check(
        [Proposal("add", reason="new", candidate=n) for n in range(len(candidates))],
        candidates=candidates,
        memories={one.memory_id: one for one in memories},
        turns=[Turn(n, "user", text, f"{n:016x}") for n, text in enumerate(said)],
        session=SessionRef("s", "session-codex-s", "codex"),
        project_id="p",
        job_key="j",
    )


def candidate(told: Told, title: str = "", body: str = "") -> Candidate:
    return Candidate("decision", title or told.title, body or told.body, 0.9, told.said)


@every_language
def test_a_decision_is_proved_by_the_users_sentence(told: Told) -> None:
    verdict = judged([candidate(told)], f"Hi. {told.said}")
    assert not verdict.rejected
    (added,) = verdict.effects[0].events
    assert isinstance(added, MemoryAdded)
    assert added.quotes == [Quote(told.said, "s", "session-codex-s", "codex", 0, "user")]
    assert judged([candidate(told)], told.others[0]).rejected[0].reason == "its quote is not in the stored transcript"


@every_language
def test_what_is_known_is_not_added_again_and_another_number_is(told: Told) -> None:
    known = memory(told.title, told.body, "known")
    twin = judged([candidate(told)], told.said, memories=[known])
    assert [one.reason for one in twin.rejected] == ["it says the same as known"]
    retold = candidate(told, f"«{told.title}»", "".join(f" {char} " if char in ",。、" else char for char in told.body))
    again = judged([retold], told.said, memories=[known])
    assert [one.reason for one in again.rejected] == ["it says the same as known"]
    other = judged([candidate(told, body=told.others[0])], told.said, memories=[known])
    assert not other.rejected


def test_two_titles_of_one_session_are_two_memories() -> None:
    chinese, japanese = LANGUAGES[:2]
    verdict = judged([candidate(chinese), candidate(japanese)], chinese.said, japanese.said)
    assert (verdict.counts["added"], verdict.rejected) == (2, [])


def test_a_text_without_words_tells_nothing() -> None:
    assert [telling(text) for text in ("", "---", "\x00 …")] == [frozenset()] * 3
