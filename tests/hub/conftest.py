import shutil

import pytest


@pytest.fixture(scope="session")
def one_run(tmp_path_factory, tiny_config, tokenizer):
    from published_run import make_published_run

    return make_published_run(tmp_path_factory.mktemp("one") / "run", tiny_config, tokenizer)


@pytest.fixture
def finished_run(one_run, tmp_path):
    return shutil.copytree(one_run, tmp_path / "runs" / "mine")
