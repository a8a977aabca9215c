"""What happened, told to those who want to know: an outbox, endpoints, and signed deliveries (Standard Webhooks)."""
