"""Fixtures of the tests of scoring."""

import pytest
from object_store import gs_server

from toxicity.predict.output_folder import output_folder


@pytest.fixture(autouse=True)
def torch_unless_asked(request, monkeypatch):
    """OpenVINO is not installed for who does not ask for it by the fixture `openvino`: converting takes seconds."""
    if "openvino" not in request.fixturenames:
        monkeypatch.setattr("toxicity.predict.runtimes.find_spec", lambda name: None)


@pytest.fixture
def openvino(tmp_path, monkeypatch):
    """OpenVINO, with an empty cache of converted models; tests without it are skipped."""
    from huggingface_hub import constants

    module = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return module


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    """A folder for outputs that is not there yet: on this machine, and in an object store."""
    if request.param == "local":
        return tmp_path / "scores"
    request.getfixturevalue("s3")
    return output_folder("s3://bucket/scores")


@pytest.fixture
def gs():
    """A server of the objects `gs.files` of gs://, by `/BUCKET/NAME`, that fails as it is told."""
    pytest.importorskip("gcsfs", reason="the extra `cloud` is not installed")
    with gs_server() as server:
        yield server


@pytest.fixture
def in_bucket(s3):
    """What a folder of the S3 server holds: call it with its address."""

    def files(address):
        s3.invalidate_cache()
        start = len(address.removeprefix("s3://")) + 1
        return {path[start:]: s3.cat_file(path) for path in s3.find(address)}

    return files


@pytest.fixture(scope="session")
def ray_nodes():
    """A cluster of Ray with two nodes of one core."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray_nodes import ray_cluster

    with ray_cluster(1, 1) as cluster:
        yield cluster
