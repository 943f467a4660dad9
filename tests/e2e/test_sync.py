"""Whole syncs with real commands, workers and Redis, and a scripted model server."""

from __future__ import annotations

from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer, status
from tests.transcripts import claude_lines, write_codex

FIRST = "aaaaaaaa-0000-4000-8000-000000000001"
SECOND = "aaaaaaaa-0000-4000-8000-000000000002"
LONG = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(12)]


def titles(world: World) -> list[str]:
    return sorted(one["title"] for one in world.memories())


def test_two_sessions_and_several_windows_over_two_processes(world: World, server: ModelServer) -> None:
    world.configure(window=900)
    world.session(FIRST, LONG, day=1)
    write_codex(world.codex, SECOND, str(world.project), ["REMEMBER: carts live in Redis.", "Thanks."], day=2)
    with world.workers(2):
        done = world.sync()
    assert (done["status"], done["sessions"]["indexed"], done["memories"]["added"]) == ("succeeded", 2, 13)
    assert titles(world) == sorted([*(f"fact {n} is kept" for n in range(12)), "carts live in Redis"])
    assert (done["tokens_in"], done["tokens_out"]) == (server.tokens_in, server.tokens_out)
    assert done["model_calls"] == len(server.served) == len(server.requests)
    spans = whole_trace(world, done["job_id"])
    names = [span.name for span in spans]
    assert names.count("Extract window #0") == 2
    assert "Extract window #2" in names
    workers = {row.as_(type(row.event)).worker for row in world.events(done["job_id"]) if row.type == "StageStarted"}  # type: ignore[arg-type, attr-defined, type-var]
    assert len(workers) == 2
    chats = [span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat"]
    assert len(chats) == len(server.served)
    assert sum(int(span.attributes["gen_ai.usage.input_tokens"]) for span in chats) == server.tokens_in
    for memory in world.memories():
        assert memory["quote"].startswith("REMEMBER: ")
        assert memory["job_id"] == done["job_id"]


def test_the_same_sessions_again_add_nothing_and_a_grown_one_only_its_new_part(
    world: World, server: ModelServer
) -> None:
    path = world.session(FIRST, ["REMEMBER: tabs not spaces.", "Fine."])
    with world.workers(1):
        assert world.sync()["memories"]["added"] == 1
        calls = len(server.requests)
        again = world.sync()
        assert (again["sessions"]["unchanged"], again["model_calls"], len(server.requests)) == (1, 0, calls)
        new = claude_lines(FIRST, str(world.project), ["REMEMBER: deploy on Mondays."], start=2)
        with path.open("a") as file:
            file.write(new[0] + "\n" + new[1][:40])
        grown = world.sync()
        assert (grown["memories"]["added"], titles(world)) == (1, ["deploy on Mondays", "tabs not spaces"])
        prompts = [str(one["messages"]) for one in server.requests[calls:] if one["model"] == "extract-model"]
        assert len(prompts) == 1
        assert "deploy on Mondays" in prompts[0]
        assert "tabs not spaces" not in prompts[0]
        calls = len(server.requests)
        with path.open("a") as file:
            file.write(new[1][40:] + "\n")
        tail = world.sync()
        assert tail["sessions"]["indexed"] == 1
        assert "Understood, point 2" in str(server.requests[calls]["messages"])
    assert len(world.memories("summary")) == 1


def test_a_rate_limit_is_waited_out_and_shows_as_a_retry(world: World, server: ModelServer) -> None:
    world.session(FIRST, ["REMEMBER: tabs not spaces."])
    server.script(status(429, retry_after_s=1), model="extract-model")
    with world.workers(1):
        done = world.sync()
    assert (done["status"], titles(world)) == ("succeeded", ["tabs not spaces"])
    spans = whole_trace(world, done["job_id"])
    attempts = [span for span in spans if span.name == "Extract window #0"]
    assert [(span.status, span.attributes["lerim.outcome"]) for span in attempts] == [
        ("error", "retry_scheduled"),
        ("unset", "ok"),
    ]
    assert attempts[1].start_ns - (attempts[0].end_ns or 0) > 1e9
    assert attempts[1].links[0].span_id == attempts[0].span_id


def test_a_fallback_answers_when_the_primary_model_is_down(world: World, server: ModelServer) -> None:
    world.configure(extract='fallback_models = ["backup-model"]', lead='fallback_models = ["openai:backup-lead"]')
    server.down.update({"extract-model", "lead-model"})
    world.session(FIRST, ["REMEMBER: tabs not spaces."])
    with world.workers(1):
        done = world.sync()
    assert (done["status"], titles(world)) == ("succeeded", ["tabs not spaces"])
    assert server.asked("backup-model") == 1
    spans = whole_trace(world, done["job_id"])
    assert [span.status for span in spans if span.name == "model request attempt extract-model"] == ["error"]
    called = [row.event for row in world.events(done["job_id"]) if row.type == "ModelCalled"]
    extract = next(call for call in called if getattr(call, "role", "") == "extract")
    assert getattr(extract, "model", "") == "backup-model"
    assert getattr(extract, "failed", [])[0]["model"] == "extract-model"


def test_a_session_that_cannot_be_extracted_is_quarantined_and_its_neighbours_go_on(
    world: World, server: ModelServer
) -> None:
    world.session(FIRST, ["REMEMBER: this one is refused."], day=1)
    world.session(SECOND, ["REMEMBER: carts live in Redis."], day=2)
    plain = server.answer

    def refuse(request: dict[str, object]) -> object:
        from tests.model_server import brain

        return status(400) if "this one is refused" in str(request) else brain(request)

    server.answer = refuse  # type: ignore[assignment]
    with world.workers(1):
        done = world.sync(expect=3)
        server.answer = plain
        assert (done["status"], done["sessions"]["quarantined"], titles(world)) == (
            "partial",
            1,
            ["carts live in Redis"],
        )
        whole_trace(world, done["job_id"])
        assert world.sync()["memories"]["added"] == 0
        forced = world.sync("--force", "--run-id", FIRST)
        assert forced["memories"]["added"] == 1


def test_a_later_session_sees_what_an_earlier_one_added(world: World, server: ModelServer) -> None:
    world.session(SECOND, ["REMEMBER: carts live in Redis."], day=3)
    world.session(FIRST, ["REMEMBER: carts live in Redis."], day=2)
    with world.workers(1):
        done = world.sync()
    assert (done["memories"]["added"], done["memories"]["unchanged"]) == (1, 1)
    (memory,) = world.memories()
    assert memory["session_id"] == FIRST


def test_a_dry_run_shows_proposals_and_keeps_nothing(world: World, server: ModelServer) -> None:
    world.session(FIRST, ["REMEMBER: tabs not spaces."])
    with world.workers(1):
        dry = world.sync("--dry-run")
        assert [one["action"] for one in dry["proposals"]] == ["add"]
        assert world.memories() == []
        assert not (world.project / ".lerim").exists()
        assert world.sync()["memories"]["added"] == 1


def test_ask_cites_memories_and_says_when_it_does_not_know(world: World, server: ModelServer) -> None:
    world.session(FIRST, ["REMEMBER: carts live in Redis."])
    with world.workers(1):
        world.sync()
        (memory,) = world.memories()
        (known,) = world.json("ask", "Where do carts live?")
        assert (known["status"], known["citations"]) == ("succeeded", [memory["memory_id"]])
        assert "Redis" in known["answer"]
        (unknown,) = world.json("ask", "Which colour has zebra paint?")
        assert (unknown["citations"], unknown["answer"]) == ([], "This is not in memory.")
        whole_trace(world, known["job_id"])
        (kept,) = world.json("maintain")
        assert kept["status"] == "succeeded"
        whole_trace(world, kept["job_id"])


def test_hand_edits_survive_and_deleted_files_archive(world: World, server: ModelServer) -> None:
    world.session(FIRST, ["REMEMBER: carts live in Redis.", "REMEMBER: deploy on Mondays."])
    with world.workers(1):
        world.sync()
        files = sorted((world.project / ".lerim" / "memory" / "decisions").glob("*.md"))
        cart, deploy = (next(file for file in files if word in file.name) for word in ("carts", "deploy"))
        cart.write_text(cart.read_text("utf-8").replace("confidence: 0.8", "confidence: 0.95"), "utf-8")
        deploy.unlink()
        world.json("maintain")
    (memory,) = world.memories()
    assert (memory["title"], memory["confidence"], memory["path"]) == ("carts live in Redis", 0.95, str(cart))
    assert "confidence: 0.95" in cart.read_text("utf-8")
    assert not deploy.exists()
