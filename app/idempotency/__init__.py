"""Requests that may be sent again: one Idempotency-Key, one effect, one answer."""
