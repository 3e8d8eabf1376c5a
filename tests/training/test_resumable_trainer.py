"""A Trainer that outlives its process, on sixteen rows and a tiny model, in this process."""

import copy
import logging
import os
import re
import stat

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import TrainerCallback

from toxicity.core.errors import Interrupted, RequestError, RunFailure
from toxicity.core.training_arguments import TrainingArguments
from toxicity.hardware.timing import PhaseClock
from toxicity.training.checkpoints import checkpoints_in, fault_of, read_index, seal
from toxicity.training.resumable_trainer import ResumableTrainer
from toxicity.training.resume import NOTE

ROWS = [{"input_ids": [2, 5 + row, 3], "labels": [float(row % 2)]} for row in range(16)]


@pytest.fixture
def make_trainer(tmp_path, tiny_model):
    """A trainer of three epochs of four steps; `aucs` are what its evaluations find."""

    def make(aucs=(), kind=ResumableTrainer, **options):
        AcceleratorState._reset_state(reset_partial_state=True)
        found = iter(aucs)
        options = {
            **{"output_dir": str(tmp_path / "run"), "num_train_epochs": 3, "per_device_train_batch_size": 4},
            **{"save_strategy": "epoch", "use_cpu": True, "disable_tqdm": True},
        } | options
        return kind(
            clock=PhaseClock(),
            train_ids=[f"c{row}\x1b" for row in range(len(ROWS))],
            model=copy.deepcopy(tiny_model),
            args=TrainingArguments(**options),
            train_dataset=ROWS,
            eval_dataset=ROWS,
            compute_metrics=lambda _: {"auc": next(found)},
        )

    yield make
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_row_without_an_id_is_named_by_its_number(make_trainer):
    trainer = make_trainer()
    trainer.train_ids = [None if row % 2 else "c" for row in range(len(ROWS))]
    named = trainer.ids_of_batch(0, 0)
    assert len(named) == 4
    assert all(name == "c" or re.fullmatch(r"row \d*[13579] of the training rows", name) for name in named)
    assert {*named} - {"c"}


def steps_saved(trainer):
    return [int(folder.name.split("-")[1]) for folder in checkpoints_in(trainer.checkpoints.run_folder.path)]


BEST = {"eval_strategy": "epoch", "metric_for_best_model": "auc"}


def test_a_limit_of_one_leaves_the_newest_beside_the_best(make_trainer):
    trainer = make_trainer([0.9, 0.8, 0.7], save_total_limit=1, **BEST)
    trainer.train()
    assert steps_saved(trainer) == [4, 12]
    assert trainer.args.save_total_limit == 1


def test_a_best_checkpoint_that_is_torn_does_not_become_the_result(make_trainer):
    class Tear(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            if state.global_step == 8:
                path = trainer.checkpoints.run_folder.checkpoint(4) / "model.safetensors"
                content = bytearray(path.read_bytes())
                content[-1] ^= 1
                path.write_bytes(content)

    trainer = make_trainer([0.9, 0.8, 0.7], load_best_model_at_end=True, **BEST)
    trainer.add_callback(Tear())
    with pytest.raises(
        RunFailure, match=r"the best checkpoint, \S+checkpoint-4, is torn: model.safetensors is not what"
    ):
        trainer.train()


def test_a_note_that_cannot_be_written_stops_nothing(make_trainer, tmp_path, caplog):
    (tmp_path / "run" / NOTE).mkdir(parents=True)
    trainer = make_trainer(logging_steps=1, num_train_epochs=1)
    with caplog.at_level(logging.WARNING, logger="toxicity"):
        trainer.train()
    assert steps_saved(trainer) == [4]
    assert caplog.text.count("cannot be written, and the run goes on") == 1
    with pytest.raises(Interrupted, match="75"):
        trainer.monitor.stop()


def test_scoring_that_was_cut_off_is_not_on_the_account(make_trainer):
    trainer = make_trainer(save_strategy="no", num_train_epochs=1)
    trainer.train()
    with trainer.clock.phase("inference"):
        trainer.save_before_stop()
    seconds = read_index(trainer.checkpoints.run_folder.checkpoint(4))["progress"]["seconds"]
    assert "inference" not in seconds
    assert seconds["checkpoint"] > 0


def stopped(trainer):
    with pytest.raises(Interrupted) as stop:
        trainer.monitor.stop()
    return stop.value.message


def test_an_interrupted_run_says_what_was_saved_and_what_goes_on(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.train()
    folder = tmp_path / "run" / "checkpoint-12"
    assert stopped(trainer) == (
        f"Interrupted by SIGTERM after step 12, saved as {folder}. Start the same command again with "
        "--resume_from_checkpoint auto."
    )
    trainer.state.global_step = 13
    assert f"after step 13. The last good checkpoint is {folder}. Start" in stopped(trainer)
    trainer.args.save_only_model = True
    assert "start again from the beginning, without --resume_from_checkpoint" in stopped(trainer)


class NoNumber(ResumableTrainer):
    """The loss of the fourth part is NaN; `seen` are the rows of each part."""

    seen = ()

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.seen = [*self.seen, [row[1] - 5 for row in inputs["input_ids"].tolist()]]
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss * float("nan") if len(self.seen) == 4 else loss


def test_of_accumulated_batches_the_one_without_a_loss_is_named(make_trainer):
    trainer = make_trainer(kind=NoNumber, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    with pytest.raises(RunFailure) as failure:
        trainer.train()
    named = ", ".join(f"c{row}\\x1b" for row in trainer.seen[3])
    assert f"not a finite number in step 2; the ids of that batch: {named}.\n" in str(failure.value)


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_loss_that_is_no_number_is_blamed_on_its_own_batch(make_trainer, max_grad_norm, optim):
    trainer = make_trainer(kind=NoNumber, max_grad_norm=max_grad_norm, optim=optim)
    trainer.monitor._check_is_due = lambda activity: trainer.state.global_step == 8  # some steps later
    with pytest.raises(RunFailure) as failure:
        trainer.train()
    named = ", ".join(f"c{row}\\x1b" for row in trainer.seen[3])
    assert f"the loss is not a finite number in step 4; the ids of that batch: {named}.\n" in str(failure.value)


def test_without_clipping_nothing_reads_the_gradients(make_trainer, monkeypatch):
    trainer = make_trainer(max_grad_norm=0.0, optim="adamw_torch_fused", logging_steps=1, num_train_epochs=1)
    monkeypatch.setattr(trainer.accelerator, "clip_grad_norm_", lambda *_: pytest.fail("a pass over the gradients"))
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 4
    assert not any("grad_norm" in entry for entry in logged)


def test_a_bad_loss_without_clipping_leaves_the_weights_as_they_were(make_trainer):
    options = {"max_grad_norm": 0.0, "optim": "adamw_torch_fused"}
    trainer = make_trainer(kind=NoNumber, max_steps=4, save_strategy="no", **options)
    trainer.monitor.require_finite = trainer.monitor._fail_on_bad_loss = lambda *_: None
    trainer.train()
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
    assert {state["step"].item() for state in trainer.optimizer.state.values()} == {3}


@pytest.mark.parametrize(("kind", "listens"), [("cpu", True), ("cuda", True), ("mps", False)])
def test_where_a_fused_optimiser_does_not_listen_the_norm_is_computed(make_trainer, monkeypatch, kind, listens):
    trainer = make_trainer(max_grad_norm=0.0, optim="adamw_torch_fused")
    trainer.create_optimizer()
    trainer.monitor.note_loss(torch.ones(()))
    monkeypatch.setattr(type(trainer.args), "device", torch.device(kind))
    assert trainer.monitor.has_optimiser_pass_over_bad_losses() is listens


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_an_infinite_gradient_of_a_finite_loss_is_blamed_on_its_own_batch(make_trainer, max_grad_norm, optim):
    trainer = make_trainer(kind=NoNumber, max_grad_norm=max_grad_norm, optim=optim)
    trainer.monitor._check_is_due = lambda activity: trainer.state.global_step == 8  # some steps later
    trainer.seen = [[]] * 9  # so that no loss is NaN by itself
    trainer.model.classifier.weight.register_hook(
        lambda gradient: gradient * float("inf") if trainer.state.global_step == 1 else gradient
    )
    with pytest.raises(RunFailure) as failure:
        trainer.train()
    named = ", ".join(f"c{row}\\x1b" for row in trainer.seen[10])
    assert f"the gradient is not finite in step 2, though the loss is; the ids of that batch: {named}.\n" in str(
        failure.value
    )


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("it was sprung",))


def test_a_pickle_in_the_state_of_the_scaler_runs_no_code(make_trainer):
    whole = make_trainer(num_train_epochs=1)
    whole.train()
    folder = whole.checkpoints.run_folder.checkpoint(4)
    torch.save(Trap(), folder / "scaler.pt")
    facts = {name: value for name, value in read_index(folder).items() if name != "files"}
    seal(folder, facts)
    assert fault_of(folder) is None
    trainer = make_trainer()
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(RequestError, match="holds a pickle of more than tensors"):
        trainer.train(resume_from_checkpoint=str(folder))


def test_an_evaluation_that_was_cut_off_is_made_up_for(make_trainer, tmp_path, monkeypatch):
    class Stop(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            monkeypatch.setattr("toxicity.training.monitor.stop_requested", lambda: state.global_step == 8)

    aucs = [0.5, 0.7, 0.6]
    whole = make_trainer(aucs, output_dir=str(tmp_path / "whole"), **BEST)
    whole.train()
    cut = make_trainer(aucs, per_device_eval_batch_size=2, **BEST)
    cut.add_callback(Stop())
    with pytest.raises(Interrupted):
        cut.train()
    monkeypatch.undo()
    assert steps_saved(cut) == [4, 8]
    again = make_trainer(aucs[1:], **BEST)
    again.train(str(tmp_path / "run" / "checkpoint-8"))
    logs = [
        [(entry["step"], entry["eval_auc"]) for entry in trainer.state.log_history if "eval_auc" in entry]
        for trainer in (whole, again)
    ]
    assert logs[0] == logs[1] == [(4, 0.5), (8, 0.7), (12, 0.6)]
    assert whole.state.best_global_step == again.state.best_global_step == 8
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_model_and_checkpoints_have_the_mode_that_the_umask_asks_for(make_trainer, tmp_path, umask):
    before = os.umask(umask)
    try:
        trainer = make_trainer(max_steps=4)
        trainer.train()
        trainer.save_model()
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"model.safetensors", "optimizer.pt", "config.json"} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}
    assert fault_of(tmp_path / "run" / "checkpoint-4") is None
