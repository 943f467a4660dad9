"""Finding memories: the index, its ranking, the context for a session, looking back."""
