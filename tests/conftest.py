"""Fixtures of all tests: a tokenizer and models that are made on the spot, comments, and commands to run."""

import copy
import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
# Ray reads its token once in a process, so all of its clusters here have the same; without one it writes to the home.
# The mode is named, as `ray.init` would set it for this process and for the clusters that it starts from then on.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = "0" * 64
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# One core for each pytest worker: threads of several workers on one core would mostly wait for each other.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
# A job in the background of a script ignores Ctrl-C, and so would the commands that these tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from builders import MAX_POSITIONS, write_comments
from hypothesis import settings
from tiny_tokenizer import tiny_tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

# No test is timed: what else runs on the machine must not decide whether one passes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def log_as_at_first():
    """What commands did to the log of the package is undone: they send it to what one test alone captures."""

    def undo():
        log = logging.getLogger("toxicity")
        log.handlers, log.propagate = [], True
        log.setLevel(logging.NOTSET)

    # Also what fixtures of the module did, which come before.
    undo()
    yield
    undo()


@pytest.fixture(scope="module", params=["torch as it is", "torch for CUDA, no card"])
def torch_build(request):
    """Torch as it is here, and as a CUDA build of it looks on a machine without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "torch as it is":
            # The two questions to its compiled part: which accelerator it was built for, and how many there are.
            patch.setattr(torch._C, "_accelerator_getAccelerator", lambda: torch.device("cuda"))
            patch.setattr(torch._C, "_cuda_getDeviceCount", lambda: 0, raising=False)
            assert torch.accelerator.current_accelerator() is not None
            assert not torch.accelerator.is_available()
        yield


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_config(tokenizer) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_POSITIONS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,  # wide enough that scores differ from the start
        num_labels=1,
        problem_type="multi_label_classification",
    )


@pytest.fixture
def tiny_model(tiny_config) -> BertForSequenceClassification:
    torch.manual_seed(0)
    # A copy, as tests change the config of their model.
    return BertForSequenceClassification(copy.deepcopy(tiny_config))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, tokenizer, tiny_config) -> Path:
    """A folder with a pretrained encoder without a classification head, as one finds on the Hub."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    BertModel(tiny_config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model_dir(tmp_path, tiny_model, tokenizer) -> Path:
    """A folder with a classifier for one label as a run saves it, but untrained."""
    tiny_model.config.id2label, tiny_model.config.label2id = {0: "toxic"}, {"toxic": 0}
    tiny_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def comments_csv(tmp_path) -> Path:
    """120 comments with the columns of the Kaggle file."""
    return write_comments(tmp_path / "comments.csv", first_id=1000)


@pytest.fixture
def cache_dir(tmp_path, monkeypatch) -> Path:
    """An empty token cache for the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "toxicity"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on loopback that the client in this process talks to, with a token that may write."""
    from hub_server import WRITE_TOKEN, HubServer
    from huggingface_hub import constants, utils

    server = HubServer()
    server.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # The client waits half a minute in all before it gives a call up.
    monkeypatch.setattr(utils._http, "time", SimpleNamespace(sleep=lambda seconds: None))
    utils.close_session()
    yield server
    utils.close_session()
    server.stop()


@pytest.fixture
def run_main(cache_dir, monkeypatch):
    """`run_toxicity.py` in this process: call it with flags; it runs on the CPU with an empty token cache."""
    import run_toxicity
    from toxicity.core.errors import refusals_exit_cleanly
    from toxicity.hardware import cpu, machine

    # One thread is enough for a tiny model, and a second one would only wait on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(cpu, "usable_cores", lambda: 1)
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["run_toxicity.py", *map(str, arguments), "--use_cpu"])
        with refusals_exit_cleanly():
            run_toxicity.main()

    yield call
    torch.set_num_threads(threads)


@pytest.fixture
def job(model_dir, tmp_path, monkeypatch):
    """A scoring job that was started: its scorer, outputs and options."""
    from toxicity.predict import score_shards
    from toxicity.predict.ledger import Ledger
    from toxicity.predict.options import Options
    from toxicity.predict.scorer import Scorer
    from toxicity.predict.worker import describe_job

    # Far smaller than the files, so that each file has several windows.
    monkeypatch.setattr(score_shards, "ROWS_PER_WINDOW", 16)
    scorer, options = Scorer(str(model_dir), device="cpu", runtime="torch"), Options(0.5, "csv")
    ledger = Ledger(tmp_path / "out", describe_job("m", scorer, options))
    ledger.start()
    return scorer, ledger.outputs, options


@pytest.fixture
def make_trainer(tmp_path, tokenizer, tiny_model, monkeypatch):
    """Make a trainer on 64 comments or a dataset; keyword arguments go to `TrainingArguments`."""
    from accelerate.state import AcceleratorState
    from training_steps import dataset_of, objective_with

    from toxicity.core.training_arguments import TrainingArguments
    from toxicity.data.token_dataset import TokenRows
    from toxicity.hardware.timing import PhaseClock
    from toxicity.hub.publisher import Publisher
    from toxicity.training.trainer import ToxicityTrainer

    def make(model=None, precision="no", auxiliary=(), dataset=None, objective=None, **options):
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        dataset = train_dataset = dataset_of(tokenizer) if dataset is None else dataset
        if auxiliary:
            objective = objective_with(dataset, auxiliary)
        if objective is not None:
            train_dataset = objective.add_targets(dataset.remove_columns("labels"))
            dataset = dataset if objective.labels.ndim == 1 else train_dataset
        options = {
            "output_dir": str(tmp_path / "run"),
            "num_train_epochs": 1,
            "per_device_train_batch_size": 8,
            "train_sampling_strategy": "group_by_length",
            "learning_rate": 1e-3,
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
        } | options
        args, clock = TrainingArguments(**options), PhaseClock()
        return ToxicityTrainer(
            model=copy.deepcopy(tiny_model) if model is None else model,
            args=args,
            processing_class=tokenizer,
            train_dataset=TokenRows(train_dataset, None if objective is None else objective.originals),
            eval_dataset=TokenRows(dataset),
            clock=clock,
            loss_options=None if objective is None else objective.loss_options,
            callbacks=[Publisher(args, clock)],
        )

    yield make
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def score(model_dir, tmp_path, monkeypatch):
    """The scoring command in this process: call it with inputs and flags, get its exit code."""
    from toxicity.core.errors import refusals_exit_cleanly
    from toxicity.predict import job, score_shards
    from toxicity.predict.__main__ import main

    # Far smaller than the files, so that each file has several windows.
    monkeypatch.setattr(score_shards, "ROWS_PER_WINDOW", 16)
    # One thread is enough for a tiny model.
    monkeypatch.setattr(job, "prepare_process", lambda scoring: torch.set_num_threads(1))
    threads = torch.get_num_threads()

    def call(*arguments, output=tmp_path / "out", model=model_dir):
        try:
            with refusals_exit_cleanly():
                main(["--model", str(model), "--output", str(output), *map(str, arguments)])
        except SystemExit as stop:
            return stop.code
        return 0

    yield call
    torch.set_num_threads(threads)


@pytest.fixture
def graphs():
    """How many graphs torch.compile made so far in this test."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.fixture
def home(tmp_path):
    return {"HF_DATASETS_CACHE": str(tmp_path / "datasets")}


@pytest.fixture
def s3(monkeypatch):
    """An fsspec file system of an S3 server on this machine, with an empty `bucket`; subprocesses reach it, too."""
    from object_store import s3_files

    with s3_files(monkeypatch) as files:
        yield files
