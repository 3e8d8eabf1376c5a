"""Compares finished runs with each other and with the published ones, and estimates the time of a run."""
