"""What tests make: comments, files of them, and flags of runs."""

import csv
import random
from pathlib import Path

ROOT = Path(__file__).parents[2]

CIVIL_WORDS = ["thank", "you", "for", "the", "kind", "thoughtful", "note", "about", "local", "gardens", "and", "trains"]
TOXIC_WORDS = ["you", "are", "a", "stupid", "rotten", "liar", "filthy", "worthless", "idiot", "and", "should", "shut"]
MAX_POSITIONS = 64


def make_comments(count: int, seed: int = 0) -> list[tuple[str, int]]:
    """Comments of 3 to 40 words with their label, one in four toxic, told apart by their words."""
    rng = random.Random(seed)
    comments = []
    for index in range(count):
        toxic = int(index % 4 == 0)
        words = rng.choices(TOXIC_WORDS if toxic else CIVIL_WORDS, k=rng.randint(3, 40))
        comments.append((" ".join(words), toxic))
    return comments


def write_comments(path: Path, count: int = 120, first_id: int = 0) -> Path:
    """Comments with the columns of the Kaggle file."""
    rows = [[number, *row] for number, row in enumerate(make_comments(count), first_id)]
    return write_csv(path, ["id", "comment_text", "target"], rows)


def write_csv(path: Path, header: list[str], rows: list[list]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def choose_all(names: list[str], source: str) -> dict[str, str]:
    """All columns of a file under their own names, for readers that ask which to read."""
    return {name: name for name in names}


def training_flags(checkpoint: Path, comments: Path, **options: object) -> list[object]:
    """Flags of a run of `run_toxicity.py` with 32 tokens and batches of eight rows; `options` replace or add flags."""
    flags = {
        "model_name_or_path": checkpoint,
        "train_file": comments,
        "max_seq_length": 32,
        "per_device_train_batch_size": 8,
        **options,
    }
    return [part for name, value in flags.items() for part in (f"--{name}", value)]


COMMENTS = [text for text, _ in make_comments(50)]


def write_texts(path: Path, texts: list[str] = COMMENTS) -> Path:
    """Texts to score, with ids from `c0` on."""
    return write_csv(path, ["id", "comment_text"], [[f"c{i}", text] for i, text in enumerate(texts)])


def files_in(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
