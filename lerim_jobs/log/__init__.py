"""The append-only log: the truth of the system."""
