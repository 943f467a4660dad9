"""The processes that do the work; the only importers of dspy and pydantic_ai."""
