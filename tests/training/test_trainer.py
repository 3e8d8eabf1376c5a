import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from builders import ROOT, make_comments
from datasets import Dataset
from hub_server import WRITE_TOKEN
from sklearn.metrics import roc_auc_score
from torch import nn
from training_steps import ONE_STEP, dataset_of, loss_and_gradient, objective_with
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
    pipeline,
    set_seed,
)

from toxicity.core.arguments import ModelArguments, ObjectiveArguments
from toxicity.core.errors import PublishError, RequestError
from toxicity.core.schema import IDENTITIES, SUBTYPES
from toxicity.core.training_arguments import TrainingArguments
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.hardware.timing import PhaseClock
from toxicity.models.classifier import load_model, load_tokenizer, with_labels
from toxicity.models.padding_free import PACKED_ATTENTION, BertForSequenceClassification
from toxicity.training.targets import objective_of
from toxicity.training.trainer import ToxicityTrainer


@pytest.fixture
def make_trainer(tmp_path, tokenizer, tiny_model, monkeypatch):
    """A trainer on those comments; keyword arguments go to `TrainingArguments`."""

    def make(model=None, precision="no", auxiliary=(), dataset=None, objective=None, **options):
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        dataset = train_dataset = dataset_of(tokenizer) if dataset is None else dataset
        if auxiliary:
            objective = objective_with(dataset, auxiliary)
        if objective is not None:
            train_dataset = objective.beside(dataset.remove_columns("labels"))
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
        return ToxicityTrainer(
            model=copy.deepcopy(tiny_model) if model is None else model,
            args=TrainingArguments(**options),
            tokenizer=tokenizer,
            train_dataset=train_dataset,
            eval_dataset=dataset,
            clock=PhaseClock(),
            coefficients=None if objective is None else objective.coefficients,
        )

    yield make
    AcceleratorState._reset_state(reset_partial_state=True)


class TupleModel(nn.Module):
    """A classifier that returns its logits as a tuple, as `return_dict=False` and scripted models do."""

    def __init__(self, model, extra=()):
        super().__init__()
        self.model = model
        self.extra = extra

    def forward(self, input_ids, attention_mask=None):
        return (self.model(input_ids=input_ids, attention_mask=attention_mask).logits, *self.extra)


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def auc_of(trainer):
    return roc_auc_score(trainer.eval_dataset["labels"], trainer.score(trainer.eval_dataset))


def test_it_learns(make_trainer):
    trainer = make_trainer(num_train_epochs=6)
    before = auc_of(trainer)
    trainer.train()
    after = auc_of(trainer)
    assert after > 0.99 > before


def test_scores_come_back_in_dataset_order(make_trainer, tiny_model, tokenizer):
    trainer = make_trainer(per_device_eval_batch_size=5)
    logits = trainer.score(trainer.eval_dataset)
    tiny_model.eval()
    with torch.no_grad():
        one_by_one = [tiny_model(torch.tensor([ids])).logits.item() for ids in trainer.eval_dataset["input_ids"]]
    assert np.unique(np.round(one_by_one, 5)).size > 50
    np.testing.assert_allclose(logits, one_by_one, atol=1e-5)
    evaluated = trainer.evaluate()["eval_auc"]
    assert evaluated == pytest.approx(roc_auc_score(trainer.eval_dataset["labels"], one_by_one))
    assert trainer.predict(trainer.eval_dataset).label_ids.ravel().tolist() == trainer.eval_dataset["labels"][:]


def test_texts_are_scored_as_the_dataset_of_them_is(make_trainer, tokenizer):
    tokenizer.model_max_length = 64
    trainer = make_trainer(per_device_eval_batch_size=5)
    texts = [text for text, _ in make_comments(64)]
    np.testing.assert_allclose(trainer.score_texts(texts), trainer.score(trainer.eval_dataset), atol=1e-5)


@pytest.mark.parametrize("extra", [(), (torch.zeros(1),)], ids=["one element", "two elements"])
def test_a_model_that_returns_a_tuple_trains_and_scores_like_any_other(make_trainer, tiny_model, extra):
    plain, wrapped = make_trainer(), make_trainer(TupleModel(copy.deepcopy(tiny_model), extra))
    for trainer in (plain, wrapped):
        trainer.train()
    assert torch.equal(weights(plain), weights(wrapped))
    np.testing.assert_array_equal(plain.score(plain.eval_dataset), wrapped.score(wrapped.eval_dataset))


SHAPES = {
    "4 x 8": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
    "cut by tokens": {"per_device_train_batch_size": 32, "max_tokens_per_batch": "100"},
    "4 x 8 cut by tokens": {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "max_tokens_per_batch": "100",
    },
    "a comment at a time": {"per_device_train_batch_size": 32, "max_tokens_per_batch": "1"},
}


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def model_of_either_kind(request, tiny_config, tiny_model):
    if not request.param:
        return tiny_model
    packed = BertForSequenceClassification._from_config(
        copy.deepcopy(tiny_config), attn_implementation=PACKED_ATTENTION
    )
    packed.load_state_dict(tiny_model.state_dict())
    return packed


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_a_step_changes_neither_loss_nor_gradient(make_trainer, model_of_either_kind, shape):
    whole = make_trainer(copy.deepcopy(model_of_either_kind), **ONE_STEP, per_device_train_batch_size=32)
    loss, gradient = loss_and_gradient(whole)
    other = make_trainer(model_of_either_kind, **ONE_STEP, **SHAPES[shape])
    other_loss, other_gradient = loss_and_gradient(other)
    assert loss == pytest.approx(other_loss, abs=1e-5)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
    assert other.trained_rows == 32
    assert other.trained_tokens == whole.trained_tokens


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_a_step_changes_nothing_for_weights_and_auxiliary_targets(make_trainer, model_of_three, shape):
    options = ONE_STEP | {"auxiliary": ("insult", "male")}
    loss, gradient = loss_and_gradient(
        make_trainer(copy.deepcopy(model_of_three), **options, per_device_train_batch_size=32)
    )
    other_loss, other_gradient = loss_and_gradient(make_trainer(model_of_three, **options, **SHAPES[shape]))
    assert loss == pytest.approx(other_loss, abs=1e-5)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)


def test_the_last_step_of_an_epoch_is_the_mean_over_its_comments(make_trainer):
    """64 comments are steps of 24, 24 and 16, accumulated from 6, 6, 6, 6 and 6, 6, 4."""
    options = ONE_STEP | {"max_steps": -1}
    whole = make_trainer(**options, per_device_train_batch_size=24)
    _, gradient = loss_and_gradient(whole)
    cut = make_trainer(**options, per_device_train_batch_size=6, gradient_accumulation_steps=4)
    _, other_gradient = loss_and_gradient(cut)
    losses = [[entry.get("loss") for entry in trainer.state.log_history[:3]] for trainer in (whole, cut)]
    np.testing.assert_allclose(*losses, atol=1e-5)
    assert whole.state.global_step == cut.state.global_step == 3
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)


STEP_OF_THIS_PROCESS = """
import sys, torch
sys.path[:0] = ["tests/support"]
from toxicity.core.arguments import ModelArguments
from toxicity.models.classifier import load_model, load_tokenizer
from toxicity.hardware.timing import PhaseClock
from toxicity.training.trainer import ToxicityTrainer
from toxicity.core.training_arguments import TrainingArguments
from training_steps import ONE_STEP, dataset_of, loss_and_gradient, objective_with

checkpoint, folder, batch_size = sys.argv[1:]
arguments = ModelArguments(checkpoint)
config, tokenizer = load_tokenizer(arguments, 64)
dataset = dataset_of(tokenizer)
objective = objective_with(dataset, ("insult", "male"))
taught = objective.beside(dataset.remove_columns("labels"))
steps = []
for train_dataset, names, coefficients in ((dataset, (), None), (taught, objective.names, objective.coefficients)):
    torch.manual_seed(0)
    trainer = ToxicityTrainer(
        model=load_model(arguments, config, names),
        args=TrainingArguments(
            output_dir=folder, use_cpu=True, disable_tqdm=True, save_strategy="no",
            per_device_train_batch_size=int(batch_size), **ONE_STEP,
        ),
        tokenizer=tokenizer, train_dataset=train_dataset, eval_dataset=dataset, clock=PhaseClock(),
        coefficients=coefficients,
    )
    steps.append((*loss_and_gradient(trainer), torch.from_numpy(trainer.score(dataset))))
if trainer.args.process_index == 0:
    torch.save((steps, trainer.args.world_size), folder + "/steps.pt")
"""


def test_two_processes_do_the_step_of_one(checkpoint, tmp_path):
    script = tmp_path / "step.py"
    script.write_text(STEP_OF_THIS_PROCESS)
    results = []
    for processes, batch_size in ((1, 32), (2, 16)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)),
                *(str(script), str(checkpoint), str(folder), str(batch_size)),
            ],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results.append(torch.load(folder / "steps.pt"))
    (alone, one), (together, two) = results
    assert (one, two) == (1, 2)
    for (loss, gradient, scores), (other_loss, other_gradient, other_scores) in zip(alone, together, strict=True):
        assert loss == pytest.approx(other_loss, abs=1e-5)
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
        torch.testing.assert_close(scores, other_scores, rtol=0, atol=1e-5)
    (plain, *_), (with_auxiliary, *_) = alone
    assert plain != pytest.approx(with_auxiliary, abs=0.1)


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_a_run_resumed_in_mid_epoch_ends_with_the_same_weights(make_trainer, checkpoint, strategy):
    arguments = ModelArguments(str(checkpoint), config_overrides="hidden_dropout_prob=0.1")
    config, _ = load_tokenizer(arguments, 64)

    def trainer():
        set_seed(1)
        return make_trainer(
            load_model(arguments, config),
            train_sampling_strategy=strategy,
            num_train_epochs=2,
            save_strategy="steps",
            save_steps=5,
            max_tokens_per_batch="150",
        )

    whole = trainer()
    whole.train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-5")
    assert resumed.state.global_step == whole.state.global_step == 16
    assert torch.equal(weights(whole), weights(resumed))


def test_a_budget_that_was_measured_stays_what_it_was_when_a_run_is_resumed(make_trainer, caplog):
    before, resumed, smaller, asked = (make_trainer(max_tokens_per_batch=budget) for budget in ["auto"] * 3 + ["100"])
    before.max_tokens = resumed.max_tokens - 100
    counts = before.counts()
    resumed.restore_counts(counts)
    assert resumed.max_tokens == resumed.data_collator.max_tokens == before.max_tokens
    smaller.max_tokens = before.max_tokens // 2
    smaller.restore_counts(counts)
    assert smaller.max_tokens == before.max_tokens // 2
    assert "will not be the same to the last bit" in caplog.text
    asked.restore_counts(counts)
    assert asked.max_tokens == 100
    assert "max_tokens" not in make_trainer().counts()


def test_the_same_seed_gives_the_same_weights(make_trainer):
    runs = []
    for seed in (1, 1, 2):
        trainer = make_trainer(seed=seed)
        trainer.train()
        runs.append(weights(trainer))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(("precision", "scaled"), [("no", False), ("bf16", False), ("fp16", True)])
def test_precision_comes_from_the_accelerate_config(make_trainer, precision, scaled):
    trainer = make_trainer(precision=precision, num_train_epochs=6)
    dtypes = set()
    trainer.model.bert.encoder.layer[0].intermediate.register_forward_hook(lambda *args: dtypes.add(args[-1].dtype))
    trainer.train()
    assert trainer.mixed_precision == precision
    assert dtypes == {{"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert (trainer.accelerator.scaler is not None) == scaled
    if scaled:
        assert trainer.accelerator.scaler.get_scale() > 1.0
    assert trainer.score(trainer.eval_dataset).dtype == np.float32
    assert auc_of(trainer) > 0.95


@pytest.mark.parametrize(("scale", "moved"), [(2.0**10, True), (2.0**60, False)])
def test_the_gradient_scaler_passes_over_an_overflow(make_trainer, scale, moved):
    trainer = make_trainer(precision="fp16", max_steps=1)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    before = weights(trainer).clone()
    trainer.train()
    assert torch.equal(before, weights(trainer)) != moved
    assert trainer.accelerator.scaler.get_scale() == (scale if moved else scale / 2)


def test_the_clock_of_training_stands_still_for_evaluation_and_checkpoints(make_trainer, monkeypatch):
    trainer = make_trainer(eval_strategy="epoch", save_strategy="epoch")

    def slow(*args, **kwargs):
        time.sleep(0.5)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", slow)
    monkeypatch.setattr(trainer.metric, "compute", lambda **kwargs: slow() or {"auc": 0.5})
    started = time.perf_counter()
    trainer.train()
    took = time.perf_counter() - started
    assert trainer.clock.seconds["checkpoint"] > 0.5
    assert trainer.clock.seconds["metrics"] > 0.5
    assert 0 < trainer.clock.seconds["training"] < took - 1.0


def test_rows_and_tokens_are_counted_without_padding(make_trainer):
    trainer = make_trainer(num_train_epochs=2, per_device_train_batch_size=12)
    trainer.train()
    assert trainer.trained_rows == 2 * 64
    assert trainer.trained_tokens == 2 * sum(trainer.train_dataset["length"])


def test_progress_is_logged_where_bars_are_off(make_trainer, caplog, monkeypatch):
    monkeypatch.setattr("toxicity.training.log_lines.LogLines.SECONDS_BETWEEN_LINES", 0.0)
    trainer = make_trainer(logging_steps=4, eval_strategy="epoch")
    with caplog.at_level("INFO", logger="toxicity"):
        trainer.train()
        trainer.score(trainer.eval_dataset)
    assert "Training: step 4 of 8" in caplog.text
    assert "Scoring: batch 2 of 6" in caplog.text
    assert "Evaluation at step 8: {'eval_loss': " in caplog.text
    assert "'eval_auc': " in caplog.text


def published(hub):
    return hub.files("tester/mine")


HUB = {"push_to_hub": True, "hub_model_id": "mine", "save_strategy": "steps", "save_steps": 4, "save_total_limit": 1}
EVERY_SAVE = HUB | {"hub_strategy": "every_save", "hub_always_push": True}


def test_checkpoints_are_published_while_training_goes_on(make_trainer, hub, tmp_path):
    trainer = make_trainer(**EVERY_SAVE, num_train_epochs=2)
    (tmp_path / "run" / "notes.txt").write_text("not for others")
    trainer.train()
    trainer.push_in_progress.wait_until_done()
    assert set(published(hub)) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    summaries = [json.loads(call.body.splitlines()[0])["value"]["summary"] for call in hub.calls("POST", "/commit/")]
    assert summaries == [f"Training in progress, step {step}" for step in (4, 8, 12, 16)]
    last = (tmp_path / "run" / "checkpoint-16" / "model.safetensors").read_bytes()
    assert published(hub)["model.safetensors"] == last
    assert not list((tmp_path / "run").glob(".publishing*"))
    assert str(tmp_path).encode() not in hub.received()


@pytest.mark.parametrize("options", [HUB, EVERY_SAVE | {"save_strategy": "no"}], ids=["at the end", "no saves"])
def test_nothing_is_published_before_the_end_where_nothing_was_asked_for(make_trainer, hub, options):
    trainer = make_trainer(**options)
    trainer.train()
    trainer.save_model()
    assert published(hub) == {}


@pytest.mark.parametrize("pattern", ["/commit/", "/preupload/", "."])
def test_a_hub_that_fails_never_stops_training(make_trainer, hub, caplog, pattern):
    trainer = make_trainer(**EVERY_SAVE)
    hub.drop("POST", pattern)
    with caplog.at_level("WARNING", logger="toxicity"):
        trainer.train()
        trainer.push_in_progress.wait_until_done()
    assert trainer.state.global_step == 8
    assert "checkpoint-8 was not published, and training goes on" in caplog.text


def test_a_hub_that_will_refuse_is_told_of_before_training_and_stops_nothing(make_trainer, hub, caplog, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with caplog.at_level("WARNING", logger="toxicity"):
        trainer = make_trainer(**HUB)
    assert "--push_to_hub would fail now: there is no token for the Hub: run `hf auth login`" in caplog.text
    trainer.train()
    trainer.save_model()
    finish(trainer)
    with pytest.raises(PublishError, match="To publish it: python -m toxicity.hub .*run --repo mine"):
        trainer.push_to_hub()
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    trainer.push_to_hub()
    assert "README.md" in published(hub)


def finish(trainer):
    """What the end of a run leaves beside the model."""
    report = Path(trainer.args.output_dir) / "report"
    report.mkdir()
    (report / "benchmark.json").write_text("{}")
    (report / "predictions.parquet").write_bytes(b"0")
    (report.parent / "README.md").write_text("# mine\n")


def test_a_hub_that_is_silent_holds_up_neither_training_nor_scores_and_the_end_not_for_ever(
    make_trainer, hub, monkeypatch, tmp_path
):
    monkeypatch.setattr("toxicity.hub.push.SECONDS_FOR_A_CHECKPOINT", 0.3)
    trainer = make_trainer(**EVERY_SAVE)
    hub.hang("POST", "/preupload/")
    trainer.train()
    trainer.score(trainer.eval_dataset)
    trainer.save_model()
    finish(trainer)
    under_way, waiting = trainer.push_in_progress.jobs
    assert not under_way.done()
    with pytest.raises(PublishError, match="a checkpoint is still on its way") as stop:
        trainer.push_to_hub()
    assert f"To publish it: python -m toxicity.hub {tmp_path / 'run'} --repo tester/mine" in str(stop.value)
    assert waiting.cancelled(), "an older model than the one that is to come"
    assert len(list((tmp_path / "run").glob(".publishing*"))) == 1

    hub.heal()
    monkeypatch.setattr("toxicity.hub.push.SECONDS_FOR_A_CHECKPOINT", 60.0)
    trainer.push_to_hub()
    assert under_way.done()
    summaries = [json.loads(call.body.splitlines()[0])["value"]["summary"] for call in hub.calls("POST", "/commit/")]
    assert summaries == ["Training in progress, step 4", "Publish the model, its card and its benchmark"]
    assert published(hub)["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert not list((tmp_path / "run").glob(".publishing*"))


def test_the_end_is_published_by_the_allow_list_and_with_the_runs_own_card(make_trainer, hub):
    trainer = make_trainer(**HUB | {"hub_private_repo": True, "hub_revision": "tried"})
    trainer.train()
    trainer.save_model()
    finish(trainer)
    assert trainer.push_to_hub() == f"{hub.endpoint}/tester/mine"
    files = hub.files("tester/mine", "tried")
    assert set(files) == {
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        "report/benchmark.json",
    }
    assert files["README.md"] == b"# mine\n"
    assert published(hub) == {}
    assert hub.repos["tester/mine"].private


def test_choices_are_explained(make_trainer, model_of_either_kind, caplog, monkeypatch):
    monkeypatch.setattr("toxicity.hardware.precision.has_bf16_instructions", lambda: True)
    with caplog.at_level("INFO", logger="toxicity"):
        trainer = make_trainer(
            model_of_either_kind, precision="bf16", max_tokens_per_batch="auto", train_sampling_strategy="random"
        )
    assert "Computing in bf16: this processor has bf16 instructions." in caplog.text
    assert f"{torch.get_num_threads()} threads for " in caplog.text
    assert f"attention: {'packed' if trainer.layout.packed else 'sdpa'}; adamw" in caplog.text
    how = "without padding" if trainer.layout.packed else "padded to the longest of a batch"
    assert f"{how}, at most 16,384 tokens at a time" in caplog.text
    assert ("group_by_length is faster" in caplog.text) is not trainer.layout.packed
    with caplog.at_level("INFO", logger="toxicity"):
        make_trainer(precision="no")
    assert "`mixed_precision: bf16` is the better choice here" in caplog.text


def test_nothing_is_compiled_for_every_batch(make_trainer, model_of_either_kind):
    assert not make_trainer(model_of_either_kind, torch_compile=True).layout.packed


@pytest.fixture
def model_of_three(tiny_config):
    """The tiny model with logits of two auxiliary targets."""
    torch.manual_seed(0)
    config = with_labels(tiny_config, ("toxic", "insult", "male"))
    return BertForSequenceClassification._from_config(config, attn_implementation=PACKED_ATTENTION)


def test_auxiliary_targets_teach_and_are_not_kept(make_trainer, model_of_three, tmp_path):
    trainer = make_trainer(
        copy.deepcopy(model_of_three), auxiliary=("insult", "male"), num_train_epochs=6, learning_rate=3e-3
    )
    trainer.train()
    teaching = trainer.model(torch.tensor([trainer.eval_dataset[0]["input_ids"]])).logits
    assert teaching.shape == (1, 3)
    assert (teaching - model_of_three(torch.tensor([trainer.eval_dataset[0]["input_ids"]])).logits).abs().min() > 0.1
    assert auc_of(trainer) > 0.9
    trainer.save_model()
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert (config.num_labels, config.id2label, config.architectures) == (
        1,
        {0: "toxic"},
        ["BertForSequenceClassification"],
    )
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    row = trainer.eval_dataset[0]["input_ids"]
    assert saved(torch.tensor([row])).logits.item() == pytest.approx(trainer.score(trainer.eval_dataset)[0], abs=1e-5)
    assert trainer.model.config.num_labels == 3
    classify = pipeline("text-classification", str(tmp_path / "run"))
    assert classify("you stupid liar")[0]["label"] == "toxic"


def biased_comments(rows, seed):
    """Columns of comments of which more are toxic where a man is mentioned; of their other words more are then mean."""
    rng = np.random.default_rng(seed)
    man = rng.random(rows) < 0.3
    toxic = rng.random(rows) < np.where(man, 0.6, 0.15)
    mean_words = rng.random((rows, 8)) < np.where(toxic, 0.5, 0.25)[:, None]
    texts = [
        " ".join([*np.where(words, "stupid", "kind"), "man" if mentioned else "note"])
        for words, mentioned in zip(mean_words, man, strict=True)
    ]
    columns = {name: np.zeros(rows) for name in (*SUBTYPES, *IDENTITIES)}
    return columns | {"text": texts, "target": toxic * 1.0, "male": man * 1.0, "insult": toxic * 0.8}


def test_weights_and_auxiliary_targets_trade_bnsp_for_more_of_bpsn(make_trainer, tiny_config, tokenizer):
    def bias_after_training(arguments):
        train, unseen = (Dataset.from_dict(biased_comments(2000, seed)) for seed in (0, 1))
        objective = objective_of(train, arguments)
        tokens, unseen_tokens = (
            dataset_of(tokenizer, zip(split["text"], split["target"], strict=True)) for split in (train, unseen)
        )
        torch.manual_seed(0)
        config = with_labels(tiny_config, ("toxic", *objective.names))
        trainer = make_trainer(
            BertForSequenceClassification._from_config(config, attn_implementation=PACKED_ATTENTION),
            dataset=tokens,
            objective=objective,
            per_device_train_batch_size=32,
            num_train_epochs=3,
        )
        trainer.train()
        return ToxicityMetric().compute(
            predictions=trainer.score(unseen_tokens),
            references=np.array(unseen["target"]),
            identities={"male": np.array(unseen["male"])},
        )["bias"]["identities"]["male"]

    plain = bias_after_training(ObjectiveArguments())
    fair = bias_after_training(ObjectiveArguments(identity_weights="any", auxiliary_targets=["subtypes", "identities"]))
    assert fair["bpsn_auc"] > plain["bpsn_auc"] + 0.05
    assert plain["bnsp_auc"] - 0.03 < fair["bnsp_auc"] < plain["bnsp_auc"]
    assert fair["subgroup_auc"] == pytest.approx(plain["subgroup_auc"], abs=0.01)


def test_training_with_auxiliary_targets_and_average_goes_on_where_it_was(make_trainer, model_of_three, tmp_path):
    options = {"auxiliary": ("insult", "male"), "ema_decay": 0.5, "layerwise_lr_decay": 0.5, "save_strategy": "steps"}
    whole = make_trainer(copy.deepcopy(model_of_three), **options, save_steps=3)
    whole.train()
    again = make_trainer(copy.deepcopy(model_of_three), **options, save_steps=100)
    again.train(str(tmp_path / "run" / "checkpoint-3"))
    assert torch.equal(weights(whole), weights(again))
    np.testing.assert_array_equal(whole.score(whole.eval_dataset), again.score(again.eval_dataset))


def test_the_average_is_what_is_scored_and_saved(make_trainer, tmp_path):
    trainer = make_trainer(ema_decay=0.9, num_train_epochs=2, eval_strategy="epoch")
    trainer.train()
    scores = trainer.score(trainer.eval_dataset)
    trained = copy.deepcopy(trainer.model).eval()
    with torch.no_grad():
        of_last_step = trained(torch.tensor([trainer.eval_dataset[0]["input_ids"]])).logits.item()
    assert abs(of_last_step - scores[0]) > 1e-4
    trainer.save_model()
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        of_saved = saved(torch.tensor([trainer.eval_dataset[0]["input_ids"]])).logits.item()
    assert of_saved == pytest.approx(scores[0], abs=1e-5)
    evaluated = [entry["eval_auc"] for entry in trainer.state.log_history if "eval_auc" in entry]
    assert evaluated[-1] == pytest.approx(auc_of(trainer))
    assert torch.equal(weights(trainer), torch.cat([p.detach().flatten() for p in trained.parameters()]))


def test_with_an_average_the_best_checkpoint_is_that_of_the_average(make_trainer, monkeypatch, tmp_path):
    trainer = make_trainer(ema_decay=0.9, num_train_epochs=3, early_stopping_patience=3)
    aucs, scores = iter([0.7, 0.9, 0.8]), []

    def compute(predictions, references):
        scores.append(predictions)
        return {"auc": next(aucs)}

    monkeypatch.setattr(trainer.metric, "compute", compute)
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "run" / "checkpoint-16")
    monkeypatch.undo()
    now = trainer.score(trainer.eval_dataset)
    np.testing.assert_array_equal(now, scores[1])
    assert (now != scores[2]).any()


def test_it_stops_when_the_auc_gets_no_better(make_trainer):
    trainer = make_trainer(num_train_epochs=9, early_stopping_patience=2, learning_rate=0.0)
    trainer.train()
    assert trainer.state.epoch == 3
    assert trainer.state.best_metric == pytest.approx(auc_of(trainer))


def test_patience_goes_on_where_it_was(make_trainer, tmp_path):
    make_trainer(num_train_epochs=2, early_stopping_patience=3, learning_rate=0.0).train()
    again = make_trainer(num_train_epochs=9, early_stopping_patience=3, learning_rate=0.0)
    again.train(str(tmp_path / "run" / "checkpoint-16"))
    assert again.state.epoch == 4


def test_the_rate_of_the_head_is_the_one_that_is_asked_for(make_trainer):
    trainer = make_trainer(layerwise_lr_decay=0.5, lr_scheduler_type="constant", logging_steps=1)
    trainer.train()
    assert {entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry} == {1e-3}
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {1e-3, 5e-4, 2.5e-4, 1.25e-4}


def test_later_epochs_train_on_fewer_civil_comments(make_trainer):
    # 16 toxic and 48 civil comments: 64 and then twice 16 + 12.
    trainer = make_trainer(num_train_epochs=3, later_negatives=0.25)
    trainer.train()
    assert trainer.state.global_step == (64 + 2 * 28) / 8
    assert trainer.trained_rows == 64 + 2 * 28


def test_the_bias_of_the_head_begins_at_the_log_odds(checkpoint):
    arguments = ModelArguments(str(checkpoint))
    config, _ = load_tokenizer(arguments, 32)
    model = load_model(arguments, config, ("insult",), np.array([0.2, 0.5]))
    np.testing.assert_allclose(model.classifier.bias.detach(), [np.log(0.25), 0], atol=1e-6)
    assert model.config.id2label == {0: "toxic", 1: "insult"}


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
OTHER_MODELS = {
    # Positions are counted from behind the padding id.
    "RoBERTa": RobertaConfig(**SMALL, max_position_embeddings=66, type_vocab_size=1),
    "DeBERTa-v3": DebertaV2Config(
        **SMALL,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        max_position_embeddings=64,
        pooler_hidden_size=32,
    ),
    "ModernBERT": ModernBertConfig(**SMALL, max_position_embeddings=64, local_attention=16),
    "DistilBERT": DistilBertConfig(dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=64),
    "ELECTRA": ElectraConfig(**SMALL, embedding_size=16, max_position_embeddings=64),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_other_models_train_and_score_as_alone(make_trainer, tmp_path, tokenizer, name):
    config = copy.deepcopy(OTHER_MODELS[name])
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / name)
    arguments = ModelArguments(str(tmp_path / name))
    config, _ = load_tokenizer(arguments, 64)
    model = load_model(arguments, config, ("insult",), np.array([0.25, 0.5]))
    trainer = make_trainer(
        model,
        auxiliary=("insult",),
        num_train_epochs=4,
        layerwise_lr_decay=0.9,
        ema_decay=0.5,
        train_sampling_strategy="random",
    )
    before = auc_of(trainer)
    trainer.train()
    assert auc_of(trainer) > max(before, 0.7)
    scores = trainer.score(trainer.eval_dataset)
    trainer.save_model()
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        alone = [saved(torch.tensor([ids])).logits.item() for ids in trainer.eval_dataset["input_ids"]]
    np.testing.assert_allclose(scores, alone, atol=1e-4)


def test_a_model_that_overflows_is_not_trained_in_fp16(tmp_path, tokenizer):
    config = copy.deepcopy(OTHER_MODELS["DeBERTa-v3"])
    config.vocab_size = len(tokenizer)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for precision in ("no", "bf16"):
        load_tokenizer(ModelArguments(str(tmp_path)), 32, precision)
    with pytest.raises(RequestError, match="fp16 .*--mixed_precision no"):
        load_tokenizer(ModelArguments(str(tmp_path)), 32, "fp16")
