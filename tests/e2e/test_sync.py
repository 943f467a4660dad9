"""Whole syncs with real commands, workers and Redis, and a scripted model server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import redis

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import MemoryAccessed, StageStarted
from lerim_jobs.log.sqlite import SqliteStore
from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer, status, tools
from tests.transcripts import claude_lines, write_claude, write_codex
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("one machine")
LONG = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(12)]


def titles(world: World) -> list[str]:
    return sorted(one["title"] for one in world.memories())


def test_b1_two_sessions_and_several_windows_over_two_processes(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.configure(project=True, window=900)
    shared.session(ids[0], LONG, day=1)
    write_codex(shared.codex, ids[1], str(shared.project), ["REMEMBER: carts live in Redis.", "Thanks."], day=2)
    done = shared.sync()
    assert (done["status"], done["sessions"]["indexed"], done["memories"]["added"]) == ("succeeded", 2, 13)
    assert titles(shared) == sorted([*(f"fact {n} is kept" for n in range(12)), "carts live in Redis"])
    assert (done["tokens_in"], done["tokens_out"]) == (model.tokens_in, model.tokens_out)
    assert done["model_calls"] == len(model.served) == len(model.requests)
    spans = whole_trace(shared, done["job_id"])
    names = [span.name for span in spans]
    assert names.count("Extract window #0") == 2
    assert "Extract window #2" in names
    workers = {row.event.worker for row in shared.events(done["job_id"]) if isinstance(row.event, StageStarted)}
    assert len(workers) == 2
    chats = [span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat"]
    assert len(chats) == len(model.served)
    assert sum(int(span.attributes["gen_ai.usage.input_tokens"]) for span in chats) == model.tokens_in
    for memory in shared.memories():
        assert memory["quote"].startswith("REMEMBER: ")
        assert memory["job_id"] == done["job_id"]


def test_the_same_sessions_again_add_nothing_and_a_grown_one_only_its_new_part(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    path = shared.session(ids[0], ["REMEMBER: tabs not spaces.", "Fine."])
    assert shared.sync()["memories"]["added"] == 1
    calls = len(model.requests)
    again = shared.sync()
    assert (again["sessions"]["indexed"], again["model_calls"], len(model.requests)) == (0, 0, calls)
    new = claude_lines(ids[0], str(shared.project), ["REMEMBER: deploy on Mondays."], start=2)
    with path.open("a") as file:
        file.write(new[0] + "\n" + new[1][:40])
    grown = shared.sync()
    assert (grown["memories"]["added"], titles(shared)) == (1, ["deploy on Mondays", "tabs not spaces"])
    prompts = [str(one["messages"]) for one in model.requests[calls:] if one["model"] == "extract-model"]
    assert len(prompts) == 1
    assert "deploy on Mondays" in prompts[0]
    assert (
        "tabs not spaces"
        not in prompts[0].rpartition("[[ ## transcript ## ]]")[2].partition("[[ ## said_before ## ]]")[0]
    )
    calls = len(model.requests)
    with path.open("a") as file:
        file.write(new[1][40:] + "\n")
    tail = shared.sync()
    assert tail["sessions"]["indexed"] == 1
    assert "Understood, point 2" in str(model.requests[calls]["messages"])
    assert len(shared.memories("summary")) == 1


def test_a_rate_limit_is_waited_out_and_shows_as_a_retry(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[0], ["REMEMBER: tabs not spaces."])
    model.script(status(429, retry_after_s=1), model="extract-model")
    done = shared.sync()
    assert (done["status"], titles(shared)) == ("succeeded", ["tabs not spaces"])
    spans = whole_trace(shared, done["job_id"])
    attempts = [span for span in spans if span.name == "Extract window #0"]
    assert [(span.status, span.attributes["lerim.outcome"]) for span in attempts] == [
        ("error", "retry_scheduled"),
        ("unset", "ok"),
    ]
    assert attempts[1].start_ns - (attempts[0].end_ns or 0) > 1e9
    assert attempts[1].links[0].span_id == attempts[0].span_id


def test_a_fallback_answers_when_the_primary_model_is_down(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.configure(
        project=True,
        extract='fallback_models = ["explorer-model"]',
        lead='fallback_models = ["openai:summarize-model"]',
    )
    model.down.update({"extract-model", "lead-model"})
    shared.session(ids[0], ["REMEMBER: tabs not spaces."])
    done = shared.sync()
    assert (done["status"], titles(shared)) == ("succeeded", ["tabs not spaces"])
    assert model.asked("explorer-model") == 1
    spans = whole_trace(shared, done["job_id"])
    assert [span.status for span in spans if span.name == "model request attempt extract-model"] == ["error"]
    called = [row.event for row in shared.events(done["job_id"]) if row.type == "ModelCalled"]
    extract = next(call for call in called if getattr(call, "role", "") == "extract")
    assert getattr(extract, "model", "") == "explorer-model"
    assert getattr(extract, "failed", [])[0]["model"] == "extract-model"


def test_b4_a_session_that_cannot_be_extracted_is_quarantined_and_its_neighbours_go_on(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], ["REMEMBER: this one is refused."], day=1)
    shared.session(ids[1], ["REMEMBER: carts live in Redis."], day=2)
    plain = model.answer

    def refuse(request: dict[str, object]) -> object:
        from tests.model_server import brain

        return status(400) if "this one is refused" in str(request) else brain(request)

    model.answer = refuse  # type: ignore[assignment]
    done = shared.sync(expect=3)
    model.answer = plain
    assert (done["status"], done["sessions"]["quarantined"], titles(shared)) == (
        "partial",
        1,
        ["carts live in Redis"],
    )
    whole_trace(shared, done["job_id"])
    assert shared.sync()["memories"]["added"] == 0
    forced = shared.sync("--force", "--run-id", ids[0])
    assert forced["memories"]["added"] == 1


def test_a_later_session_sees_what_an_earlier_one_added(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[1], ["REMEMBER: carts live in Redis."], day=3)
    shared.session(ids[0], ["REMEMBER: carts live in Redis."], day=2)
    done = shared.sync()
    assert (done["memories"]["added"], done["memories"]["unchanged"]) == (1, 1)
    (memory,) = shared.memories()
    assert memory["session_id"] == ids[0]


def test_a_dry_run_shows_proposals_and_keeps_nothing(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[0], ["REMEMBER: tabs not spaces."])
    dry = shared.sync("--dry-run")
    assert [one["action"] for one in dry["proposals"]] == ["add"]
    assert shared.memories() == []
    assert not (shared.project / ".lerim").exists()
    assert shared.sync()["memories"]["added"] == 1


def test_ask_cites_memories_and_says_when_it_does_not_know(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[0], ["REMEMBER: carts live in Redis."])
    shared.sync()
    (memory,) = shared.memories()
    (known,) = shared.json("ask", "Where do carts live?", "--project", shared.name)
    assert (known["status"], known["citations"]) == ("succeeded", [memory["memory_id"]])
    assert "Redis" in known["answer"]
    (unknown,) = shared.json("ask", "Which colour has zebra paint?", "--project", shared.name)
    assert (unknown["citations"], unknown["answer"]) == ([], "This is not in memory.")
    first = shared.name
    shared.move_to(f"{first}-next")
    shared.session(ids[1], ["REMEMBER: carts live in cookies.", "REMEMBER: carts live for a week."])
    shared.sync()
    (here,) = shared.json("ask", "Where do carts live?", "--project", shared.name, "--limit", "1")
    assert "Redis" not in here["answer"]
    results = [one["content"] for one in model.requests[-1]["messages"] if one["role"] == "tool"]
    assert [one["memory_id"] for one in json.loads(results[0])] == here["citations"]
    assert here["citations"][0] in {one["memory_id"] for one in shared.memories()}
    found = shared.json("memory", "search", "carts live", "--project", first)
    assert memory["memory_id"] in [one["memory_id"] for one in found]
    assert {one["project"] for one in found} == {first}
    whole_trace(shared, known["job_id"])
    (kept,) = shared.json("maintain")
    assert kept["status"] == "succeeded"
    whole_trace(shared, kept["job_id"])


def test_hand_edits_survive_and_deleted_files_archive(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[0], ["REMEMBER: carts live in Redis.", "REMEMBER: deploy on Mondays."])
    shared.sync()
    files = sorted((shared.project / ".lerim" / "memory" / "decisions").glob("*.md"))
    cart, deploy = (next(file for file in files if word in file.name) for word in ("carts", "deploy"))
    cart.write_text(cart.read_text("utf-8").replace("confidence: 0.8", "confidence: 0.95"), "utf-8")
    deploy.unlink()
    shared.json("maintain")
    (memory,) = shared.memories()
    assert (memory["title"], memory["confidence"], memory["path"]) == ("carts live in Redis", 0.95, str(cart))
    assert "confidence: 0.95" in cart.read_text("utf-8")
    assert not deploy.exists()


def test_a_file_edited_while_maintain_changes_its_memory_keeps_both(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], ["REMEMBER: carts live in Redis.", "REMEMBER: baskets are kept in Redis."])
    shared.sync()
    carts, baskets = sorted(shared.memories(), key=lambda one: one["title"], reverse=True)
    path = Path(carts["path"])
    merge = {
        "survivor": carts["memory_id"],
        "absorbed": [baskets["memory_id"]],
        "title": "Carts and baskets live in Redis",
        "body": "Both are kept in Redis.",
        "reason": "the same thing",
    }
    before = model.asked("lead-model")
    model.script(tools(("merge_memories", merge), wait_s=3), model="lead-model")
    (asked,) = shared.json("maintain", "--project", shared.name, "--no-wait")
    until(lambda: model.asked("lead-model") > before, 20, what="a question to the curator's model")
    path.write_text(path.read_text("utf-8").replace("confidence: 0.8", "confidence: 0.95"), "utf-8")
    done = shared.json("jobs", "watch", asked["job_id"])[-1]
    assert (done["memories"]["merged"], done["files"]["edited"], done["files"]["problems"]) == (1, 1, [])
    (memory,) = shared.memories()
    assert (memory["title"], memory["body"]) == ("Carts and baskets live in Redis", "Both are kept in Redis.")
    assert (memory["confidence"], memory["path"]) == (0.95, str(path))
    text = path.read_text("utf-8")
    assert "confidence: 0.95" in text
    assert "Both are kept in Redis." in text


def test_a_sync_without_new_sessions_takes_hand_edits_and_new_files_in(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], ["REMEMBER: carts live in Redis."])
    shared.sync()
    (memory,) = shared.memories()
    path = Path(memory["path"])
    assert shared.sync()["files"]["written"] == 0
    path.write_text(path.read_text("utf-8").replace("confidence: 0.8", "confidence: 0.95"), "utf-8")
    path.with_name("money.md").write_text("# Money is integers\n\nCents.\n", "utf-8")
    path.with_name("broken.md").write_text("---\ntitle: [\n---\n", "utf-8")
    done = shared.sync()
    assert (done["model_calls"], done["files"]["edited"], done["files"]["added"]) == (0, 1, 1)
    assert "line 2" in done["files"]["problems"][0]["problem"] or "line 3" in done["files"]["problems"][0]["problem"]
    assert sorted((one["title"], one["confidence"]) for one in shared.memories()) == [
        ("Money is integers", 1.0),
        ("carts live in Redis", 0.95),
    ]
    whole_trace(shared, done["job_id"])
    # A file that changed just now might change again and look the same: for two seconds it is looked at again.
    until(
        lambda: not any("publish" in row.stage for row in _stages(shared, shared.sync()["job_id"])),
        20,
        what="a sync that has nothing to publish",
    )


def _stages(world: World, job_id: str) -> list[StageStarted]:
    return [row.event for row in world.events(job_id) if isinstance(row.event, StageStarted)]


def test_odd_files_are_counted_and_never_fatal(shared: World, model: ModelServer, ids: list[str]) -> None:
    good = shared.session(ids[0], ["REMEMBER: carts live in Redis."])
    folder = good.parent
    (folder / "folder.jsonl").mkdir()
    (folder / "empty.jsonl").touch()
    (folder / "broken.jsonl").write_text("not json at all")
    (folder / "link.jsonl").symlink_to(good)
    os.mkfifo(folder / "pipe.jsonl")
    silent = claude_lines(ids[1], str(shared.project), ["<command-name>/clear</command-name>"])
    (folder / f"{ids[1]}.jsonl").write_text(silent[0] + "\n")
    done = shared.sync()
    assert (done["status"], done["memories"]["added"], done["sessions"]["indexed"]) == ("succeeded", 1, 1)
    counts = done["sessions"]
    assert counts["found"] == counts["indexed"] + counts["unchanged"] + counts["skipped"]
    assert set(done["skipped_reasons"]) >= {
        "a folder, not a file",
        "a symbolic link",
        "not a file (p)",
        "empty file",
        "nothing to keep",
    }
    assert shared.sync()["model_calls"] == 0
    for odd in ("link.jsonl", "pipe.jsonl"):
        (folder / odd).unlink()


def test_a_session_of_an_unknown_folder_waits_for_its_project(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    later = shared.root / f"later-{ids[0][:8]}"
    later.mkdir()
    write_claude(shared.claude, ids[0], str(later), ["REMEMBER: carts live in Redis."])
    first = shared.sync()
    assert (first["sessions"]["indexed"], first["memories"]["added"]) == (1, 0)
    assert first["left"]["no registered project"] == 1
    shared.lerim("project", "add", str(later))
    assert shared.sync()["memories"]["added"] == 1
    shared.lerim("project", "remove", later.name)


@pytest.mark.slow
def test_a_redacted_secret_is_in_no_byte_of_the_machine_and_does_not_come_back(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    marker = f"ZQX-{shared.name[-6:]}-MARKER"
    says = [f'REMEMBER: the code "{marker}"\nopens the vault.', f"REMEMBER: nobody writes {marker} down."]
    path = shared.session(ids[0], [*says, "REMEMBER: tabs not spaces."])
    with path.open("a") as file:
        file.write(json.dumps({"type": "custom-title", "customTitle": f"On {marker}", "sessionId": ids[0]}) + "\n")
    shared.sync()
    shared.json("ask", f"What is {marker} for?", "--project", shared.name)
    stood = {name.partition(".")[0] for name in places(shared, marker)}
    assert stood >= {"log", "traces", "shop"}
    (counted,) = shared.json("memory", "redact", "--pattern", marker, "--dry-run")
    assert counted["hits"] > 5
    assert {name.partition(".")[0] for name in places(shared, marker)} >= stood
    (done,) = shared.json("memory", "redact", "--pattern", marker)
    assert (done["left"], done["kept"]) == ([], 0)
    assert done["spans"] > 3
    save_redis(shared)
    assert places(shared, marker) == []
    assert {"nobody writes [REDACTED] down", "tabs not spaces"} < set(titles(shared))
    (asked,) = shared.json("ask", "Who writes it down?", "--project", shared.name)
    assert "[REDACTED]" in asked["answer"]

    os.utime(path)
    forked = path.read_text().replace(f'"sessionId": "{ids[0]}"', f'"sessionId": "{ids[1]}"').splitlines()
    titled = json.dumps({"type": "custom-title", "customTitle": f"About {marker}", "sessionId": ids[0]})
    for session, lines in (
        (ids[1], [*forked, *claude_lines(ids[1], str(shared.project), ["REMEMBER: a fork."], start=7)]),
        (
            ids[0],
            [
                *path.read_text().splitlines(),
                *claude_lines(ids[0], str(shared.project), ["REMEMBER: it grew."], start=3),
            ],
        ),
    ):
        path.with_name(f"{session}.jsonl").write_text("\n".join(lines) + "\n")
    with path.open("a") as file:
        file.write(f"{titled}\n")
    shared.sync()
    assert {"it grew", "a fork"} < set(titles(shared))
    assert places(shared, marker) == [], "a touched, grown or forked session brought it back"

    tabs = next(one["memory_id"] for one in shared.memories() if one["title"] == "tabs not spaces")
    (gone,) = shared.json("memory", "redact", tabs)
    assert gone["left"] == []
    assert "tabs not spaces" not in titles(shared)
    assert shared.json("memory", "history", tabs)[-1]["status"] == "redacted"
    shared.lerim("memory", "undo", tabs, expect=2)


def test_a_job_is_undone_with_its_files_and_what_somebody_edited_is_left_alone(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], ["REMEMBER: tabs not spaces.", "REMEMBER: deploy on Mondays."])
    job_id = shared.sync()["job_id"]
    known = {one["title"]: one for one in shared.memories()}
    before = max(one["updated_at"] for one in shared.json("memory", "list", "--project", shared.name))
    mine = Path(known["deploy on Mondays"]["path"])
    mine.write_text(mine.read_text().replace("deploy on Mondays\n", "deploy on Tuesdays\n"))
    lines = {line["title"]: line["outcome"] for line in shared.json("jobs", "undo", job_id, expect=3)}
    assert lines == {"tabs not spaces": "undone", "deploy on Tuesdays": "conflict", "Work on the shop": "undone"}
    assert titles(shared) == ["deploy on Tuesdays"]
    assert {file.name.partition(".")[0] for file in shared.project.rglob("*.md")} == {mine.stem}
    (then,) = shared.json("ask", "tabs not spaces", "--project", shared.name, "--as-of", before)
    assert then["citations"] == [known["tabs not spaces"]["memory_id"]]
    (now,) = shared.json("ask", "tabs not spaces", "--project", shared.name)
    assert now["citations"] == []
    found = shared.json("memory", "search", "tabs", "--project", shared.name, "--as-of", before)
    assert found[0]["title"] == "tabs not spaces"
    assert len(shared.json("memory", "list", "--project", shared.name, "--as-of", before)) == 3
    accessed = [row.event for row in stored(shared) if isinstance(row.event, MemoryAccessed)]
    assert then["citations"] not in [event.memory_ids for event in accessed]

    undo_id = next(one["undo_id"] for one in shared.json("memory", "history", then["citations"][0]) if one["undo_id"])
    shared.json("jobs", "undo", undo_id)
    assert titles(shared) == ["deploy on Tuesdays", "tabs not spaces"]
    first, last = (shared.json("memory", "history", then["citations"][0])[at] for at in (0, -1))
    assert first["content_hash"] == last["content_hash"]
    assert (first["job_id"], len(first["trace_id"]), len(first["span_id"])) == (job_id, 32, 16)


def places(world: World, text: str) -> list[str]:
    """Where in the state folder and the project's own folder the text stands, in any case, in names or bytes."""
    found = []
    for top in (world.home.root, world.project):
        for path in (one for one in top.rglob("*") if one.is_file()):
            if text.lower().encode() in str(path).lower().encode() + path.read_bytes().lower():
                found.append(path.name if top == world.home.root else "shop")
    return sorted(found)


def save_redis(world: World) -> None:
    """Make Redis write all it has into its files."""
    from lerim_jobs import config
    from lerim_jobs.machine import embedded

    with redis.Redis.from_url(embedded.address(world.home, config.load(world.env))) as client:
        client.save()
        client.bgrewriteaof()
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 10, what="a rewritten file")
        assert client.dbsize() > 0


def stored(world: World) -> list[Recorded]:
    store = SqliteStore(world.home.log)
    try:
        return store.read_all(0, 100_000, ("MemoryAccessed",))
    finally:
        store.close()
