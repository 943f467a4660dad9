"""Coding-agent sessions: finding them, reading them, and what is kept of them."""
