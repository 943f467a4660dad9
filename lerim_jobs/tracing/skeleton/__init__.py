"""The spans of a job, read from its events."""
