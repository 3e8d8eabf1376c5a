"""What a process does that writes suggestions beside others."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toxicity.serve import suggestions


def append_many(file: Path, name: str) -> None:
    """Append 20 long rows from four threads."""
    with ThreadPoolExecutor(4) as threads:
        rows = [[{"text": f"{name} {number} {'x' * 9000}"}] for number in range(20)]
        list(threads.map(suggestions.append, [file] * 20, rows))
