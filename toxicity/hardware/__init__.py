"""The machine: describing and checking it, choosing a precision, and timing what runs on it."""
