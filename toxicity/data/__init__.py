"""Comments: read, checked, split and tokenised."""
