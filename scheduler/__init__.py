"""Decides when to ask for sync and maintain jobs; does nothing else."""
