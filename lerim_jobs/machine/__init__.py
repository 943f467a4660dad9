"""The machine a process runs on: who it is, its locks, its embedded Redis, its background services."""
