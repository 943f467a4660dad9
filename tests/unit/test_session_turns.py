"""B8's identity, session by session: whatever jobs and people do, turns = extracted + dead + waiting, each turn once."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import (
    Event,
    SessionDropped,
    SessionExtracted,
    SessionIndexed,
    SessionQuarantined,
    SessionReleased,
    SessionRetried,
    SessionScheduled,
)
from lerim_jobs.sessions.ranges import both, joined, minus, size
from lerim_jobs.sessions.session import SESSIONS, Session


class Log:
    """One session and its events so far."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.version = 0

    def add(self, event: Event) -> Session:
        self.version += 1
        row = Recorded(self.version, "i", "s", self.version, type(event).__name__, 1, encode(event), {}, self.version)
        self.session = SESSIONS.apply(self.session, row)
        assert self.session is not None
        return self.session

    def grow(self, to: int) -> Session:
        return self.add(SessionIndexed("a", "s", "/f", "h", 1, 1, 1, 1, "t", turn_to=to, blob="b", human_prompts=1))

    def take(self, job: str, *, force: bool = False) -> Session:
        assert self.session
        first, end = (0, self.session.turns) if force else self.session.next_turns
        return self.add(SessionScheduled(job, "p", first, end))


def parts(session: Session) -> tuple[int, int, int]:
    return session.extracted_turns, session.dead_turns, session.waiting_turns


def lost(session: Session) -> list[tuple[int, int]]:
    return [(one.turn_from, one.turn_to) for one in session.dead]


def test_b4_dead_turns_are_known_by_range_and_reason_and_can_be_tried_again() -> None:
    log = Log()
    log.grow(10)
    log.take("one")
    dead = log.add(SessionQuarantined("one", 10, "extract:k:0", "killed"))
    assert (parts(dead), lost(dead), dead.quarantined[0].reason, dead.waiting) == (
        (0, 10, 0),
        [(0, 10)],
        "killed",
        False,
    )
    log.grow(16)
    log.take("two")
    later = log.add(SessionExtracted("two", 16))
    assert (parts(later), lost(later)) == ((6, 10, 0), [(0, 10)])
    again = log.add(SessionRetried(0, 10))
    assert (parts(again), again.next_turns, again.waiting) == ((6, 0, 10), (0, 10), True)
    log.take("three")
    done = log.add(SessionExtracted("three", 10))
    assert (parts(done), done.extracted_to, done.waiting) == ((16, 0, 0), 16, False)


def test_retried_turns_next_to_new_ones_are_taken_together() -> None:
    log = Log()
    log.grow(4)
    log.take("one")
    log.add(SessionQuarantined("one", 4, "s", "r"))
    log.grow(9)
    assert log.add(SessionRetried(0, 4)).next_turns == (0, 9)


def test_dropped_turns_stay_dead_with_the_reason_and_are_nobodys_task() -> None:
    log = Log()
    log.grow(4)
    log.take("one")
    log.add(SessionQuarantined("one", 4, "s", "r"))
    dropped = log.add(SessionDropped(0, 4, "not worth it"))
    assert (parts(dropped), dropped.quarantined, dropped.dead[0].dropped) == ((0, 4, 0), [], "not worth it")


def test_turns_given_another_chance_while_a_job_works_on_later_ones_still_wait_after_it() -> None:
    log = Log()
    log.grow(10)
    log.take("one")
    log.add(SessionQuarantined("one", 10, "s", "r"))
    log.grow(20)
    log.take("two")
    log.add(SessionRetried(0, 10))
    after = log.add(SessionExtracted("two", 20))
    assert (parts(after), after.next_turns) == ((10, 0, 10), (0, 10))


def test_a_forced_job_that_dies_loses_nothing_that_was_extracted_and_one_that_lives_saves_the_dead() -> None:
    log = Log()
    log.grow(6)
    log.take("one")
    log.add(SessionExtracted("one", 6))
    log.grow(10)
    log.take("two", force=True)
    assert lost(log.add(SessionQuarantined("two", 10, "s", "r"))) == [(6, 10)]
    log.take("three", force=True)
    assert parts(log.add(SessionExtracted("three", 10))) == (10, 0, 0)


STEPS = st.lists(
    st.sampled_from(["grow", "take", "force", "extracted", "dead", "released", "retry", "drop"]), max_size=25
)


@given(STEPS)
def test_b8_every_turn_is_in_exactly_one_place(steps: list[str]) -> None:
    log = Log()
    session = log.grow(3)
    for number, step in enumerate(steps):
        taken = session.taken_by
        window = session.quarantined[0] if session.quarantined else None
        if step == "grow":
            session = log.grow(session.turns + 1 + number % 3)
        elif step in ("take", "force") and not taken and (step == "force" or session.waiting):
            session = log.take(f"j{number}", force=step == "force")
        elif step == "extracted" and taken:
            session = log.add(SessionExtracted(taken, session.taken_to))
        elif step == "dead" and taken:
            session = log.add(SessionQuarantined(taken, session.taken_to, "s", "r"))
        elif step == "released" and taken:
            session = log.add(SessionReleased(taken, session.extracted_to))
        elif step == "retry" and window:
            session = log.add(SessionRetried(window.turn_from, window.turn_to))
        elif step == "drop" and window:
            session = log.add(SessionDropped(window.turn_from, window.turn_to, "d"))
        assert sum(parts(session)) == session.turns
        assert min(parts(session)) >= 0
        waiting = [*session.again, (session.extracted_to, session.turns)]
        assert not any(both(waiting, one) for one in lost(session))
        assert size(joined([*waiting, *lost(session)])) == session.dead_turns + session.waiting_turns


RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple)).map(joined)  # type: ignore[arg-type]


@given(RANGES, st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted))
def test_ranges_are_sets_of_turns(ranges: list[tuple[int, int]], window: list[int]) -> None:
    first, end = window
    turns = reduce(set.union, (set(range(*one)) for one in ranges), set[int]())
    inside = set(range(first, end))
    for found, wanted in ((both(ranges, (first, end)), turns & inside), (minus(ranges, (first, end)), turns - inside)):
        assert reduce(set.union, (set(range(*one)) for one in found), set[int]()) == wanted
        assert size(found) == len(wanted)
