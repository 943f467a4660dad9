"""What git says about a folder, read from its files: no git binary, no configuration of a repository's is followed."""
