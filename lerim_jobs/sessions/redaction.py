"""Secrets out of texts, before anything is stored, queued, traced or sent to a model.

Each pattern has literal hints that are looked for first, so clean text costs a few substring searches. All repetitions are
bounded or cannot overlap: the time is linear in the length of the text.
"""

from __future__ import annotations

import re

__all__ = ["redact"]

_PATTERNS: list[tuple[str, tuple[str, ...], str]] = [
    (
        "private-key",
        ("private key-----",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
    ),
    ("api-key", ("sk-",), r"\bsk-[A-Za-z0-9_-]{16,}"),
    ("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{20,}"),
    ("github-token", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{20,}"),
    ("gitlab-token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{16,}"),
    ("aws-key", ("akia", "asia"), r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("slack-token", ("xox",), r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    ("google-key", ("aiza",), r"\bAIza[A-Za-z0-9_-]{30,}"),
    ("jwt", ("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{4,})?"),
    ("npm-token", ("npm_",), r"\bnpm_[A-Za-z0-9]{30,}"),
    ("hf-token", ("hf_",), r"\bhf_[A-Za-z0-9]{25,}"),
    ("stripe-key", ("sk_", "rk_"), r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    ("pypi-token", ("pypi-",), r"\bpypi-[A-Za-z0-9_-]{30,}"),
    ("bearer", ("bearer",), r"(?i)\bbearer\s{1,4}[A-Za-z0-9._~+/=-]{12,}"),
    ("url-password", ("://",), r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{0,100}:[^\s/@\"']{1,200}@"),
    (
        "secret",
        ("key", "token", "secret", "passw"),
        r"(?i)(?:key|token|secret|passwo?r?d)[\"']?\s{0,4}[:=]\s{0,4}[\"'][^\s\"']{12,400}[\"']",
    ),
    (
        "secret",
        ("key", "token", "secret", "passw"),
        r"(?i)(?:key|token|secret|passwo?r?d)\s{0,4}=\s{0,4}[A-Za-z0-9_+/.=-]{16,400}",
    ),
    ("email", ("@",), r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}\b"),
]
_COMPILED = [(kind, frozenset(hints), re.compile(pattern)) for kind, hints, pattern in _PATTERNS]
_HINTS = sorted({hint for _, hints, _ in _PATTERNS for hint in hints})


def redact(text: str) -> tuple[str, int]:
    """The text with every secret replaced by `[REDACTED:kind]`, and how many there were."""
    lowered = text.lower()
    present = {hint for hint in _HINTS if hint in lowered}
    if not present:
        return text, 0
    count = 0
    for kind, hints, pattern in _COMPILED:
        if not present.isdisjoint(hints):
            text, hits = pattern.subn(f"[REDACTED:{kind}]", text)
            count += hits
    return text, count
