"""What a cancelled job has paid for is used by the next one, and paid for once."""

from __future__ import annotations

from lerim_jobs.log.events import ModelCalled
from lerim_jobs.memory.history.provenance import origins
from tests.here import Here
from tests.model_server import ModelServer

ONE, TWO = (f"bbbbbbbb-0000-4000-8000-0000000000a{n}" for n in (1, 2))


def test_the_answers_of_a_cancelled_sync_are_used_by_the_next(here: Here, server: ModelServer) -> None:
    here.session(ONE, ["REMEMBER: carts live in Redis."])
    here.session(TWO, ["REMEMBER: deploy on Mondays."])
    job_id = here.cancelled("sync", before="integrate")
    assert here.memories() == []
    paid = {(call.stage, call.request_hash): call for call in here.events(job_id, ModelCalled.__name__)}
    asked = len(server.requests)
    assert asked == len(paid) >= 2
    next_id, result = here.run("sync")
    assert (result["memories"]["added"], result["model_calls"], len(server.requests)) == (2, 0, asked)
    assert result["replayed_calls"] == asked
    assert here.events(next_id, ModelCalled.__name__) == []
    for memory in here.memories():
        (origin,) = origins(here.store, memory)
        assert origin.kept_by is not None
        assert (origin.kept_by.stage, origin.kept_by.tokens_in > 0) in {(stage, True) for stage, _ in paid}


def test_what_was_asked_otherwise_is_asked_again(here: Here, server: ModelServer) -> None:
    path = here.session(ONE, ["REMEMBER: carts live in Redis."])
    here.cancelled("sync", before="integrate")
    asked = len(server.requests)
    with path.open("a") as file:
        file.write(here.session(TWO, ["REMEMBER: deploy on Mondays."]).read_text().replace(TWO, ONE))
    _, result = here.run("sync", session_id=ONE)
    assert result["model_calls"] > 0
    assert len(server.requests) > asked


def test_an_answer_that_is_no_longer_kept_is_asked_for_again(here: Here, server: ModelServer) -> None:
    here.session(ONE, ["REMEMBER: carts live in Redis."])
    job_id = here.cancelled("sync", before="integrate")
    with here.store.write() as tx:
        for call in here.events(job_id, ModelCalled.__name__):
            tx.drop_blob(call.answer_blob)
    asked = len(server.requests)
    _, result = here.run("sync")
    assert (result["memories"]["added"], len(server.requests)) == (1, 2 * asked)
