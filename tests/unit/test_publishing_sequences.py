"""Random sequences of hand edits, moves, deletions, changes in the log and publishes: no word a person wrote is lost, files and
log agree, and a rebuild gives the same bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.log.events import MemoryArchived, MemoryMerged, MemoryRestored, MemoryUpdated
from lerim_jobs.log.projection import rebuild
from lerim_jobs.memory.files.markdown import render
from lerim_jobs.memory.files.states import FILES, files_of
from lerim_jobs.memory.stored import MEMORIES
from tests.projects import Shop

KEYS = ("a", "b", "c")
ACTIONS = "body title tag new move away delete update archive merge restore publish".split()
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(KEYS)), max_size=14)


class Sequence:
    """Does the steps; `words` are those people wrote into files, each once."""

    def __init__(self, root: Path) -> None:
        self.shop, self.words, self.number = Shop(root), list[str](), 0
        for key in KEYS:
            self.shop.add(key)
        self.shop.publish()

    def do(self, step: str, key: str) -> None:
        self.number += 1
        if step == "publish":
            self.shop.publish()
        elif step in ("update", "archive", "merge", "restore"):
            self._in_log(step, key)
        elif step == "new":
            path = self.shop.folder / "learnings" / f"note-{self.number}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# Note {self.number}\n\n{self._word()}\n", "utf-8")
        elif (state := files_of(self.shop.store, [key])[key]).path and (self.shop.folder / state.path).exists():
            self._in_file(step, self.shop.folder / state.path)

    def _in_file(self, step: str, path: Path) -> None:
        text = path.read_text("utf-8")
        if step == "delete":
            # what was written and deleted again before anybody saw it was taken back by its writer
            self.words = [word for word in self.words if word not in text]
            path.unlink()
        elif step == "move":
            path.rename(path.with_name(f"moved-{self.number}.md"))
        elif step == "away":
            to = self.shop.folder / "archived" / "decisions" / f"away-{self.number}.md"
            to.parent.mkdir(parents=True, exist_ok=True)
            path.rename(to)
        elif step == "title":
            head, _, tail = text.partition("\ntitle: ")
            path.write_text(f"{head}\ntitle: {self._word()} {tail}", "utf-8")
        elif step == "tag":
            path.write_text(text.replace("tags:\n", f"tags:\n- {self._word()}\n", 1), "utf-8")
        else:
            path.write_text(text.replace("\n---\n", f"\n---\n{self._word()}\n", 1), "utf-8")

    def _in_log(self, step: str, key: str) -> None:
        memory = self.shop.memories[key]
        if step == "update" and memory.status == "active":
            said = f"ours{self.number}"
            self.shop.append(key, MemoryUpdated(key, memory.title, said, 0.7, memory.tags))
        elif step == "archive" and memory.status == "active":
            self.shop.append(key, MemoryArchived(key))
        elif step == "merge" and memory.status == "active":
            self.shop.append(key, MemoryMerged(key, "c"))
        elif step == "restore" and memory.status != "active":
            self.shop.append(key, MemoryRestored(key))

    def _word(self) -> str:
        self.words.append(f"word{self.number:03}x")
        return self.words[-1]


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_whatever_happens_no_word_is_lost_and_a_rebuild_is_the_same(steps: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        run = Sequence(Path(root))
        for step, key in steps:
            run.do(step, key)
        shop = run.shop
        shop.publish()
        kept = b"".join([row.data for row in shop.store.read_all(0, 10_000)] + list(shop.files().values())).decode()
        assert [word for word in run.words if word not in kept] == []
        again = shop.publish()
        assert again.get("written", 0) == 0
        files = files_of(shop.store, list(shop.memories))
        settled = {key: one for key, one in shop.memories.items() if files[key].path and not files[key].conflict}
        assert {key: shop.path(key).read_bytes() for key in settled} == {
            key: render(one) for key, one in settled.items()
        }
        if again.get("problems"):
            return
        before = shop.files()
        shutil.rmtree(shop.folder, ignore_errors=True)
        rebuild(shop.store, FILES)
        rebuild(shop.store, MEMORIES)
        shop.publish()
        assert shop.files() == before
