"""The guarded way out to hosts that users type (placeholder: see docs)."""
