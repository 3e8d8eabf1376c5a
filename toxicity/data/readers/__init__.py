"""Readers of files of comments, one module per format."""
