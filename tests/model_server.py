"""The scripted model server, which is part of the product: `lerim drill` runs against it too."""

from lerim_jobs.drill.model_server import ModelServer, Step, brain, drip, hang, raw, reset, status, text, tools

__all__ = ["ModelServer", "Step", "brain", "drip", "hang", "raw", "reset", "status", "text", "tools"]
