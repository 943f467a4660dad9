"""Memories as markdown files: reading what people did, writing what changed."""
