"""How good and how fair scores are, from arrays alone."""
