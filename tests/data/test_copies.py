"""Local files are read where they are, if they are those that were listed."""

import os

import pytest
from builders import write_texts

from toxicity.core.errors import RequestError
from toxicity.data.addresses import list_data_files
from toxicity.data.copies import local_copy


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("id,text\n1,longer than before\n"),
        lambda path: os.utime(path, ns=(0, 0)),
    ],
    ids=["removed", "another size", "another time"],
)
def test_a_local_file_that_is_another_than_was_listed_is_refused(change, tmp_path):
    path = write_texts(tmp_path / "a.csv", ["x"])
    (file,) = list_data_files(str(path))
    with local_copy(file) as found:
        assert found == path
    change(path)
    with pytest.raises(RequestError, match=r"/a.csv is not the file that was listed: .* that all machines share"):
        with local_copy(file):
            pass
