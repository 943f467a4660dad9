"""Removing what was said from everything that is stored."""
