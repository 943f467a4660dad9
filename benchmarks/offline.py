"""How much of what a careful reader would keep the offline rules find, on the labelled transcripts of the tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

from workers.cues import candidates

__all__ = ["Score", "score"]

LABELLED = Path(__file__).resolve().parents[1] / "tests" / "labelled" / "offline.toml"


class Score:
    """Counts over all transcripts. A found sentence is right when it is labelled, whatever its kind."""

    def __init__(self) -> None:
        self.transcripts = self.worth = self.found = self.right = self.right_kind = 0
        self.wrong: list[str] = []
        self.missed: list[str] = []

    @property
    def precision(self) -> float:
        """Right ones among the found."""
        return self.right / self.found

    @property
    def recall(self) -> float:
        """Found ones among those worth keeping."""
        return self.right / self.worth

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.2f} ({self.right} of {self.found} found), recall {self.recall:.2f} "
            f"({self.right} of {self.worth} worth keeping), kind right in {self.right_kind} of {self.right}, "
            f"{self.transcripts} transcripts"
        )


def score(part: str) -> Score:
    """Run the rules over the labelled transcripts of one set, `tuned` or `held out`."""
    total = Score()
    for one in tomllib.loads(LABELLED.read_text("utf-8"))["transcript"]:
        if one["set"] != part:
            continue
        worth = {sentence: kind for kind, sentence in one["worth"]}
        found = {candidate.quote: candidate.kind for candidate in candidates(one["text"].strip())}
        total.transcripts += 1
        total.worth += len(worth)
        total.found += len(found)
        right = worth.keys() & found.keys()
        total.right += len(right)
        total.right_kind += sum(worth[sentence] == found[sentence] for sentence in right)
        total.wrong += sorted(found.keys() - worth.keys())
        total.missed += sorted(worth.keys() - found.keys())
    return total
