"""One plain file per stage. A stage knows nothing of queues, Redis, spans, leases or retries."""
