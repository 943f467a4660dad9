"""Looking after the state folder: backup and restore, rebuilding, keeping files small, finding out what is wrong."""
