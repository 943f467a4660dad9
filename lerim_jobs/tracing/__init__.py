"""Tracing: one trace per job, its skeleton derived from the log, its leaves recorded by whoever did the work."""
