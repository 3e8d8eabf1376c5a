import json
import os
import stat
from contextlib import suppress

import numpy as np
import pytest

from toxicity.core.errors import RequestError
from toxicity.core.files import (
    digest,
    digest_of,
    flush,
    folder_written_whole,
    give_usual_modes,
    installed_file,
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


def test_a_name_that_is_not_utf8_is_the_same_when_json_is_read_again(tmp_path):
    path, name = tmp_path / "names.json", os.fsdecode(b"caf\xe9 \xc3\xa9")
    write_text(path, json.dumps({name: name}, ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == {name: name}


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


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(RequestError, match=r"not installed: pip install no-such-package==1.0"):
        installed_file("no-such-package==1.0", "data.csv", "0" * 64)


def test_a_file_that_the_package_does_not_carry():
    with pytest.raises(RequestError, match=r"pytest/data.csv is not installed: pip install pytest==9"):
        installed_file("pytest==9", "pytest/data.csv", "0" * 64)


def test_a_file_of_other_content():
    with pytest.raises(RequestError, match=r"was altered: pip install --force-reinstall --no-deps pytest==9"):
        installed_file("pytest==9", "pytest/__init__.py", "0" * 64)


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_files_have_the_mode_that_the_umask_asks_for(tmp_path, umask):
    (tmp_path / "below").mkdir()
    for path in (tmp_path / "a.safetensors", tmp_path / "below" / "b.safetensors"):
        path.touch(0o600)
    give_usual_modes(tmp_path)
    assert mode_of(tmp_path / "a.safetensors") == mode_of(tmp_path / "below" / "b.safetensors") == 0o666 & ~umask
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "below"]


def test_so_have_those_of_a_folder_that_is_written_whole(tmp_path, umask):
    with folder_written_whole(tmp_path / "model") as unfinished:
        (unfinished / "a.safetensors").touch(0o600)
    assert mode_of(tmp_path / "model" / "a.safetensors") == 0o666 & ~umask
