"""The classifier, and how a batch of comments goes through it."""
