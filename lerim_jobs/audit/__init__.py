"""The six zeros: what the log and the machine say about what was promised. One file per zero."""
