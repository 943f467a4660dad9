"""The model layer: one provider stack for agents and DSPy, with roles, fallbacks, the journal and the offline model."""

from __future__ import annotations

from workers.models.models import Models

__all__ = ["Models"]
