import sys

import pytest

from toxicity.core import training_checks
from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import RequestError

MIN_LR = '{"min_lr": 1e-6}'
EACH_EPOCH = ["--eval_strategy", "epoch"]

REFUSED = {
    "a metric that nobody measures": (["--metric_for_best_model", "f1"], "f1: .* measures loss or auc"),
    "the same with its prefix": (["--metric_for_best_model", "eval_accuracy"], "measures loss or auc"),
    "best by what": (["--save_strategy", "best", *EACH_EPOCH], "needs a --metric_for_best_model: loss or auc"),
    "best by a metric that there is not": (
        ["--save_strategy", "best", "--metric_for_best_model", "accuracy"],
        "accuracy: .* measures loss or auc",
    ),
    "best without evaluations": (["--save_strategy", "best", "--metric_for_best_model", "auc"], "add --eval_strategy"),
    "the lowest AUC": (
        ["--metric_for_best_model", "auc", "--greater_is_better", "false"],
        "auc is better when .*great",
    ),
    "the greatest loss": (["--metric_for_best_model", "eval_loss", "--greater_is_better", "true"], "smaller"),
    "the greatest loss, by default": (["--greater_is_better", "true"], "the loss is better when it is smaller"),
    "a package of an optimiser": (["--optim", "adamw_bnb_8bit"], "--optim adamw_bnb_8bit .*install.*bitsandbytes"),
    "of galore": (["--optim", "galore_adamw"], "--optim galore_adamw .*galore_torch"),
    "of apollo": (["--optim", "apollo_adamw"], "--optim apollo_adamw .*apollo_torch"),
    "of lomo": (["--optim", "lomo"], "--optim lomo .*lomo"),
    "of torchao": (["--optim", "adamw_torch_8bit"], "--optim adamw_torch_8bit .*torchao"),
    "of schedule_free": (["--optim", "schedule_free_adamw"], "--optim schedule_free_adamw .*schedulefree"),
    "of a machine": (["--optim", "adamw_torch_xla"], "--optim adamw_torch_xla .*torch_xla"),
    "options that are none": (["--optim", "sgd", "--optim_args", "momentum"], "--optim_args momentum: give NAME=VALUE"),
    "options of the default, that are none": (["--optim_args", "a=1,b"], "give NAME=VALUE"),
    "options of a wrong type": (["--optim", "sgd", "--optim_args", "momentum=high"], "momentum=high cannot be used"),
    "a schedule without what it needs": (
        ["--lr_scheduler_type", "cosine_with_min_lr"],
        "cosine_with_min_lr needs options: .*min_lr.* Give such as --lr_scheduler_kwargs '{\"min_lr\": 1e-06}'",
    ),
    "another": (["--lr_scheduler_type", "warmup_stable_decay"], "needs options: .*num_decay_steps"),
    "a schedule with what it does not take": (
        ["--lr_scheduler_type", "linear", "--lr_scheduler_kwargs", MIN_LR],
        "linear does not take .*min_lr",
    ),
    "a schedule without options": (["--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", MIN_LR], "no options"),
    "a dictionary that is none": (["--lr_scheduler_kwargs", "min_lr=1e-6"], "min_lr=1e-6 cannot be read .*give JSON"),
    "half a dictionary": (["--activation_checkpointing_kwargs", "{"], "--activation_checkpointing_kwargs { cannot be"),
    "a file that is not there": (["--accelerator_config", "no.json"], "--accelerator_config no.json .*or a file"),
    "a key that there is not": (["--accelerator_config", '{"fast": true}'], "--accelerator_config .*fast"),
    "liger": (["--use_liger_kernel", "true"], "--use_liger_kernel .*pip install liger-kernel"),
    "DeepSpeed": (["--deepspeed", "zero.json"], "DeepSpeed is not supported.*fsdp.yaml"),
    "a compiler of nobody's": (["--torch_compile_backend", "gcc"], "backend gcc: what works is .*inductor"),
    "a mode of nobody's": (["--torch_compile_mode", "fast"], "mode fast: what works is default"),
    "predictions": (["--do_predict"], "python -m toxicity.predict"),
    "no training": (["--do_eval"], "leave .*--do_eval unless --do_train"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_fail_later_is_refused_now(name):
    flags, message = REFUSED[name]
    with pytest.raises(RequestError, match=message) as refusal:
        parse_arguments(flags)
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "flags",
    [
        ["--metric_for_best_model", "eval_auc", "--load_best_model_at_end", "true", "--save_strategy", "epoch"],
        ["--metric_for_best_model", "loss", "--save_strategy", "best"],
        ["--load_best_model_at_end", "true", "--save_strategy", "best", "--greater_is_better", "false"],
        ["--optim", "adafactor"],
        ["--optim", "sgd", "--optim_args", "momentum=0.9, nesterov=true"],
        ["--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs", MIN_LR, "--warmup_steps", "0.1"],
        ["--lr_scheduler_type", "warmup_stable_decay", "--lr_scheduler_kwargs", '{"num_decay_steps": 10}'],
        ["--lr_scheduler_type", "polynomial"],
        ["--lr_scheduler_type", "reduce_lr_on_plateau"],
        ["--do_train", "--do_eval"],
        ["--neftune_noise_alpha", "5"],
    ],
)
def test_what_works_is_let_through(flags):
    parse_arguments([*flags, *EACH_EPOCH])


def test_deepspeed_of_the_launcher_is_refused_too(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(RequestError, match="DeepSpeed is not supported"):
        parse_arguments([])


def test_to_compile_for_a_cpu_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(training_checks.shutil, "which", lambda name: None)
    with pytest.raises(RequestError, match="--torch_compile .*there is no compiler: install g"):
        parse_arguments(["--torch_compile", "true", "--use_cpu"])
    parse_arguments(["--torch_compile_backend", "eager", "--use_cpu"])


def test_liger_is_for_gpus(monkeypatch):
    monkeypatch.setattr(training_checks.importlib.util, "find_spec", lambda name: sys)
    with pytest.raises(RequestError, match="--use_liger_kernel is for GPUs"):
        parse_arguments(["--use_liger_kernel", "true", "--use_cpu"])


@pytest.mark.parametrize(("value", "meaning"), [("True", "true"), ("true", "true"), ("False", None), ("auto", "auto")])
def test_to_resume_may_be_said_as_the_trainer_takes_it(value, meaning):
    assert parse_arguments(["--resume_from_checkpoint", value]).training.resume_from_checkpoint == meaning


def test_an_evaluation_measures_what_can_be_asked_for(make_trainer):
    evaluated = make_trainer().evaluate()
    speeds = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch")
    assert {name for name in evaluated if name not in speeds} == {"eval_loss", "eval_auc"}
