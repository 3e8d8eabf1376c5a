import pytest

from toxicity.files import digest_of, flush, write_text, written_whole


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
