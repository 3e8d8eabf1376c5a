"""The machine: what it is, what it can compute, and how its time is taken."""
