"""Spans on this machine: their store and the tree in the terminal."""
