"""Jobs: what a job is, how its stages are claimed, retried, swept and ended."""
