"""The report of a run: benchmark.json, pictures, report.md and report.html."""
