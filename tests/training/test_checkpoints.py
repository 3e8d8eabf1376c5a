import json
import os
import shutil

import pytest

from toxicity.training.checkpoints import (
    INDEX,
    checkpoints_in,
    clear_leftovers,
    fault_of,
    newest_whole,
    put_in_place,
    rotate,
    seal,
    unfinished_path,
)


@pytest.fixture
def save(tmp_path):
    """Write a checkpoint of two files; one of them in a folder of its own."""

    def call(step, content=b"weights" * 100, run_id="this"):
        folder = unfinished_path(tmp_path, step)
        (folder / "state").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(content)
        (folder / "state" / "shard-0").write_bytes(b"moments")
        seal(folder, {"step": step, "run_id": run_id})
        return put_in_place(folder)

    return call


def test_a_sealed_checkpoint_is_whole_and_nothing_else_is_left(save, tmp_path):
    folder = save(4)
    assert folder == tmp_path / "checkpoint-4"
    assert fault_of(folder) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def shorten(folder):
    os.truncate(folder / "model.safetensors", 10)


def flip_a_bit(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[50] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def remove(folder):
    (folder / "state" / "shard-0").unlink()


def remove_index(folder):
    (folder / INDEX).unlink()


def cut_index(folder):
    os.truncate(folder / INDEX, 40)


def change_index(folder):
    (folder / INDEX).write_text((folder / INDEX).read_text().replace('"step": 8', '"step": 9'))


def nest_index(folder):
    (folder / INDEX).write_text("[" * 100_000)


def make_index_a_list(folder):
    (folder / INDEX).write_text("[]")


def point_outside(folder):
    (folder.parent / "secret").write_bytes(b"s")
    seal(folder, {"step": 8, "run_id": "this"})
    index = json.loads((folder / INDEX).read_text())
    index["files"]["../secret"] = index["files"].pop("model.safetensors")
    index.pop("xxh3")
    from toxicity.training.checkpoints import _digest_of

    (folder / INDEX).write_text(json.dumps(index | {"xxh3": _digest_of(index)}))


TEARS = {
    shorten: "model.safetensors has 10 bytes instead of 700",
    flip_a_bit: "model.safetensors is not what was written",
    remove: "state/shard-0 is missing",
    remove_index: "it has no checkpoint.json",
    cut_index: "its checkpoint.json is damaged",
    change_index: "its checkpoint.json is damaged",
    nest_index: "its checkpoint.json is damaged",
    make_index_a_list: "its checkpoint.json is damaged",
    point_outside: "names a file outside of it",
}


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_one_is_named_and_passed_over(save, tmp_path, caplog, tear):
    whole, torn = save(4), save(8)
    tear(torn)
    assert TEARS[tear] in fault_of(torn)
    with caplog.at_level("WARNING", logger="toxicity"):
        assert newest_whole(tmp_path) == whole
    assert f"Passed over {torn}: it is torn" in caplog.text


def test_a_file_that_the_disk_does_not_give_is_torn(save, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    folder = save(4)
    monkeypatch.setattr("toxicity.training.checkpoints.digest_of", fail)
    assert fault_of(folder) == "model.safetensors cannot be read: Input/output error"


def test_every_byte_of_a_file_counts(save):
    folder = save(4)
    content = (folder / "model.safetensors").read_bytes()
    for length in range(0, len(content), 70):
        (folder / "model.safetensors").write_bytes(content[:length])
        assert fault_of(folder)
    (folder / "model.safetensors").write_bytes(content)
    assert fault_of(folder) is None


def test_the_newest_is_of_the_run_that_wrote_last(save, tmp_path):
    save(1000, run_id="before")
    newest = save(4)
    assert newest_whole(tmp_path) == newest
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["checkpoint-1000", "checkpoint-4"]


def test_within_a_run_the_step_counts_and_not_the_clock(save, tmp_path, monkeypatch):
    save(4)
    monkeypatch.setattr("time.time", lambda: 1.0)
    newest = save(8)
    assert newest_whole(tmp_path) == newest


def test_no_folder_holds_none(tmp_path):
    assert newest_whole(tmp_path / "nowhere") is None
    clear_leftovers(tmp_path / "nowhere")


def test_one_of_the_same_step_is_replaced(save, tmp_path):
    save(4)
    folder = save(4, b"other")
    assert (folder / "model.safetensors").read_bytes() == b"other"
    assert fault_of(folder) is None
    assert len(list(tmp_path.iterdir())) == 1


def test_what_an_interrupted_save_left_is_cleared(save, tmp_path, caplog):
    # Killed between the two renames of a replacement: the old one is put back.
    save(4).rename(tmp_path / ".checkpoint-4.replaced")
    shutil.copytree(save(8), tmp_path / ".checkpoint-8.replaced")
    unfinished_path(tmp_path, 12).mkdir()
    with caplog.at_level("WARNING", logger="toxicity"):
        clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    assert f"Passed over {tmp_path / 'checkpoint-12'}: it was being written" in caplog.text


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [4, 8, 12, 16]),
        (0, None, [4, 8, 12, 16]),
        (1, None, [16]),
        (2, None, [12, 16]),
        (1, 4, [4, 16]),
        (2, 8, [8, 16]),
        (3, 8, [8, 12, 16]),
        (9, 4, [4, 8, 12, 16]),
    ],
)
def test_the_limit_keeps_the_newest_and_the_best(save, tmp_path, limit, best, kept):
    for step in (4, 8, 12, 16):
        newest = save(step)
    rotate(tmp_path, limit, newest, best and str(tmp_path / f"checkpoint-{best}"))
    assert [folder.name for folder in checkpoints_in(tmp_path)] == [f"checkpoint-{step}" for step in kept]


def test_a_torn_one_goes_before_a_whole_one(save, tmp_path):
    save(4)
    shorten(save(8))
    rotate(tmp_path, 2, save(12))
    assert [folder.name for folder in checkpoints_in(tmp_path)] == ["checkpoint-4", "checkpoint-12"]
