"""lerim-jobs: durable, traced memory jobs for coding agents."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
