"""The command line: one file per command group; what a command does not need is not imported."""
