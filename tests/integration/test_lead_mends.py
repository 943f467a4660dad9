"""What the lead mends of candidates, with a job, a model server and files."""

from __future__ import annotations

from lerim_jobs.memory.checks.evidence import unsupported
from tests.here import Here
from tests.model_server import ModelServer, tools
from tests.transcripts import claude_lines

SESSION = "dddddddd-0000-4000-8000-00000000000d"
SAID = [
    "REMEMBER: totals are shown with two decimals.",
    "REMEMBER: prices are shown with two decimals.",
    "REMEMBER: deploy on Mondays.",
]


def test_the_lead_mends_a_kind_and_joins_what_says_one_thing(here: Here, server: ModelServer) -> None:
    path = here.session(SESSION, ["REMEMBER: carts live in Redis."])
    here.sync()
    server.reset()
    joined = {
        "candidate": 0,
        "also": [1],
        "kind": "preference",
        "title": "Two decimals in prices and totals",
        "body": "Prices and totals are shown with two decimals.",
        "reason": "both say it",
    }
    server.script(
        tools(
            ("add_memory", joined),
            ("add_memory", {"candidate": 1, "reason": "decided with the one before"}),
            ("add_memory", {"candidate": 2, "reason": "new", "kind": "summary"}),
        ),
        tools(("add_memory", {"candidate": 2, "reason": "new", "kind": "procedure"})),
        model="lead-model",
    )
    with path.open("a") as file:
        file.write("\n".join(claude_lines(SESSION, str(here.project), SAID, start=1)) + "\n")
    _, result = here.run("sync")
    made = {one.title: (one.kind, len(one.quotes)) for one in here.memories() if "carts" not in one.title}
    assert made == {"Two decimals in prices and totals": ("preference", 2), "deploy on Mondays": ("procedure", 1)}
    assert (result["memories"]["added"], result["memories"]["rejected"]) == (2, 0)
    assert server.asked("lead-model") == 2
    assert unsupported(here.store)[1] == []
