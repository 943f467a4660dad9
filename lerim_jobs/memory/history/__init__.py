"""Where a memory came from, what happened to it, and taking that back."""
