"""Hints over Redis, and who is woken by them."""
