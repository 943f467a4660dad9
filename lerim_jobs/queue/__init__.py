"""The queue and the processes around it: hints over Redis, the embedded Redis, who is running."""
