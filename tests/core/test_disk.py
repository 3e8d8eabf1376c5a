import pytest

from toxicity.core.disk import full_disk_explained
from toxicity.core.errors import RunFailure


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
