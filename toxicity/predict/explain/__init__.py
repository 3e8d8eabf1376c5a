"""Which words of a comment push its score up or down."""
