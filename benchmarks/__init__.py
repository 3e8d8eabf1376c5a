"""Benchmarks: contenders run interleaved on one machine, each table reports medians over the rounds."""
