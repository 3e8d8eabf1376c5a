"""Runs beside each other and beside the published ones."""
