"""Paths of the files that a run writes."""

from __future__ import annotations

from pathlib import Path


class RunFolder:
    """The `--output_dir` of a run, there or not: the model lies in it, and beside the model what these paths name."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def report(self) -> Path:
        """Folder of the report: tables, pictures and scores, for people."""
        return self.path / "report"

    @property
    def benchmark(self) -> Path:
        """The row of the run, for programs."""
        return self.report / "benchmark.json"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint after so many optimiser steps, there or not."""
        return self.path / f"checkpoint-{step}"

    @property
    def default_repo(self) -> str:
        """What the model is called on the Hub unless `--hub_model_id` says otherwise: the folder's own name."""
        return self.path.absolute().name
