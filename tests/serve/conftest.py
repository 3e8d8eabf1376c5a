"""A scorer of three labels, and the service of it."""

import pytest
from label_models import save_label_model
from serving import client_of, service_of

from toxicity.predict.scorer import Scorer


@pytest.fixture(scope="session")
def labels_dir(tmp_path_factory, tiny_config, tokenizer):
    """A folder with an untrained model of three labels, as a run saves it."""
    folder = tmp_path_factory.mktemp("labels") / "model"
    return save_label_model(folder, tiny_config, tokenizer, names=("toxic", "insult", "threat"))


@pytest.fixture(scope="session")
def scorer(labels_dir):
    return Scorer(str(labels_dir), device="cpu", runtime="torch")


@pytest.fixture
def service(scorer):
    return service_of(scorer)


@pytest.fixture
def client(service):
    with client_of(service) as client:
        yield client
