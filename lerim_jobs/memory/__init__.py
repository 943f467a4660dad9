"""Memories: how they change, how they are checked, found, aged and written down."""
