"""Hand-written sessions about a lamp shop, for `lerim demo`; `{project}` stands for the project's folder."""
