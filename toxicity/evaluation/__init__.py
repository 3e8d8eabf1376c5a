"""Measure scores, given as arrays: ranking, calibration, and bias between identities."""
