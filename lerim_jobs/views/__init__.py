"""Read models: folds of the log, kept as documents that can be deleted and rebuilt at any time."""
