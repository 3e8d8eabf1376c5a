import pytest

from toxicity.hub.redact import public_benchmark, public_name


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("/home/jane/models/base", "base"),
        ("/base", "base"),
        ("/home/jane/models/base/", "base"),
        ("~/models/base", "base"),
        ("../base", "base"),
        ("a/b/c", "c"),
        (r"C:\Users\jane\base", "base"),
        ("train.csv", "train.csv"),
    ],
)
def test_a_local_path_is_known_by_its_last_part(name, public):
    assert public_name(name) == public
    assert public_benchmark({"protocol": {"model": name}}) == {"protocol": {"model": public}}


def test_a_run_knows_whether_its_model_was_local_wherever_it_is_published_from(tmp_path, monkeypatch):
    (tmp_path / "google" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name, is_local, public in [
        ("models/jane", True, "jane"),
        ("models/jane", None, "models/jane"),
        ("google/base", False, "google/base"),
        ("google/base", None, "base"),
        ("/home/jane/base", False, "base"),
    ]:
        for what in ("model", "dataset"):
            protocol = {what: name} | ({} if is_local is None else {f"{what}_is_local": is_local})
            assert public_benchmark({"protocol": protocol})["protocol"] == protocol | {what: public}


def test_a_relative_folder_is_local_though_it_looks_like_an_id(tmp_path, monkeypatch):
    (tmp_path / "runs" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name("runs/base") == "base"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("read from /home/jane/data/train.csv, row 3", "read from train.csv, row 3"),
        ("file:///home/jane/data/train.csv", "train.csv"),
        ("vocab=~jane/x/vocab.txt", "vocab=vocab.txt"),
        (r"in D:\jane\data\x.csv", "in x.csv"),
        (r"\\server\jane\x", "x"),
        ("/home/jane/with spaces/x", "x"),
        ("/home/John Smith/models/x", "x"),
        ("read from /home/John Smith/data/train.csv, row 3", "read from train.csv, row 3"),
        ("../models/jane/secret", "secret"),
        ("of ../jane and ./x and ~/y", "of jane and x and y"),
        ("models/jane/secret", "secret"),
        (r"models\jane\secret", "secret"),
        ("a=models/jane/secret,b=/home/jane/x", "a=secret,b=x"),
        ("cannot open:/home/jane/x", "cannot open:x"),
        ("sqlite:////home/jane/x.db", "sqlite:x.db"),
        (r"'\n\n' and '\s\d'", r"'\n\n' and '\s\d'"),
        ("1/2, n/a, ~5/10, .../x", "1/2, n/a, ~5/10, .../x"),
        ("http://localhost:8080/a/b/c?d=/e/f", "http://localhost:8080/a/b/c?d=/e/f"),
        (
            "https://huggingface.co/google/civil_comments/tree/main",
            "https://huggingface.co/google/civil_comments/tree/main",
        ),
        ("12 rows/s and/or 3 km/h", "12 rows/s and/or 3 km/h"),
        ("3 toxic rows, fewer than 10", "3 toxic rows, fewer than 10"),
        ("torch 2.13.0+cpu", "torch 2.13.0+cpu"),
    ],
)
def test_paths_within_texts_lose_their_folders(text, public):
    assert public_benchmark({"a": [{"b": text}]}) == {"a": [{"b": public}]}
