"""The drill: everything that can break breaks in a sandbox, then the audit looks."""
