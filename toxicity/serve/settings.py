"""What the command line of the service asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The flags of `python -m toxicity.serve`, checked."""

    model: str  # folder of a run or an export, or a model on the Hub
    model_revision: str = "main"
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1  # processes, each with a model of its own
    api_keys: Path | None = None  # file with a key a line; None: anybody may call
    suggestions: Path | None = None  # file that suggested scores are appended to; None: they are refused
    languages: tuple[str, ...] = ("en",)  # ISO 639-1 codes that the model knows, the first for comments without one
    cors_origins: tuple[str, ...] = ()  # origins whose pages may call; ("*",) for all
    toxic_label: tuple[str, ...] = ()
    mixed_precision: str | None = None
    runtime: str | None = None
    prior: tuple[float, ...] | None = None
    threshold_for: str | None = None  # `Wanted.name` of the thresholds that labels are given by
