"""Frozen evaluation: features once per model and benchmark (`embed`), then scores as functions of them (`score`)."""
