"""The classifier: loading it, batching comments for it, and computing it fast."""
