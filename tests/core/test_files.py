from contextlib import suppress

import numpy as np
import pytest

from toxicity.core.errors import RunFailure
from toxicity.core.files import (
    digest,
    digest_of,
    flush,
    folder_written_whole,
    full_disk_explained,
    write_text,
    written_whole,
)


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.csv"
    with written_whole(path) as unfinished:
        unfinished.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [each.name for each in tmp_path.iterdir()] == ["scores.csv"]


def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "scores.csv"
    write_text(path, "before, ä")

    def fail():
        with written_whole(path) as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "before, ä"
    assert [each.name for each in tmp_path.iterdir()] == ["scores.csv"]


def test_hidden_names_stay_hidden_once(tmp_path):
    with written_whole(tmp_path / ".progress.json") as unfinished:
        assert unfinished.name == ".progress.json.unfinished"
        unfinished.touch()


def test_a_digest_is_of_every_byte(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    content = bytearray(9_000_000)
    one.write_bytes(content)
    content[-1] = 1
    other.write_bytes(content)
    flush(other)
    assert len(digest_of(one)) == 32
    assert digest_of(one) == digest_of(one) != digest_of(other)


def kept():
    return "The last one is whole. Make room."


def test_a_disk_that_is_too_small_is_known_beforehand(tmp_path):
    with pytest.raises(RunFailure, match=r"needs 1,\d{3},\d{3},\d{3}.\d MiB, and .* were free(.|\n)*Make room"):
        with full_disk_explained(tmp_path / "not" / "there", "the model", kept, needed=2**50 + 2**49):
            pytest.fail("it was tried")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0 (PytorchStreamWriter failed)"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_is_told_with_numbers_and_leaves_nothing(tmp_path, error):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    with pytest.raises(RunFailure, match="cannot write checkpoint-8 .*it needs 3.0 MiB.*MiB were free"):
        with full_disk_explained(tmp_path, "checkpoint-8", kept, needed=3 * 2**20, cleanup=unfinished):
            raise error
    assert not unfinished.exists()


def test_what_nobody_knows_the_size_of_is_not_said_to_need_nothing(tmp_path):
    with pytest.raises(RunFailure, match=r"^cannot write the report in \S+: [\d,.]+ MiB were free"):
        with full_disk_explained(tmp_path, "the report", kept):
            raise OSError(28, "No space left on device")


def test_other_troubles_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), full_disk_explained(tmp_path, "checkpoint-8", kept):
        raise PermissionError(13, "Permission denied")


def test_a_folder_is_seen_when_it_is_whole_and_replaces_what_was_there(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    with folder_written_whole(folder) as unfinished:
        (unfinished / "new").touch()
        assert [path.name for path in folder.iterdir()] == ["old"]
        assert unfinished.name.startswith(".")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_was_not_finished_leaves_what_was_there(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    (tmp_path / ".model.unfinished").mkdir()
    (tmp_path / ".model.unfinished" / "of a process that was killed").touch()
    with suppress(KeyError), folder_written_whole(folder) as unfinished:
        assert list(unfinished.iterdir()) == []
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_digest_is_of_all_bytes_however_they_come(tmp_path):
    (tmp_path / "file").write_bytes(b"toxicity")
    assert digest([b"tox", np.frombuffer(b"icity", np.uint8)]) == digest_of(tmp_path / "file")
    assert digest([b"toxicity"]) == digest_of(tmp_path / "file") != digest([b"toxicitY"])
    assert len(digest([])) == 32
