import dataclasses
import re

import pytest
from transformers import TrainingArguments

from toxicity.core import arguments
from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import RequestError
from toxicity.core.flags import GONE, RENAMED, require_known

GROUPS = ("DataArguments", "ModelArguments", "MachineArguments", "ObjectiveArguments", "TrainingArguments")
KNOWN = {field.name for group in GROUPS for field in dataclasses.fields(getattr(arguments, group))}
# Flags of Accelerate's launcher and of other commands of this package.
ELSEWHERE = {"mixed_precision", "num_processes", "config_file", "model", "input", "output", "export"}


def test_no_flag_is_gone_that_is_there():
    assert not KNOWN.intersection({*GONE, *RENAMED})
    assert not set(GONE).intersection(RENAMED)


@pytest.mark.parametrize("name", RENAMED)
def test_the_new_name_is_a_flag(name):
    assert RENAMED[name] in KNOWN
    with pytest.raises(RequestError, match=f"unknown flag `--{name}`; it is called `--{RENAMED[name]}` now"):
        parse_arguments([f"--{name}", "1"])


@pytest.mark.parametrize("name", GONE)
def test_what_to_say_instead_is_a_flag(name):
    assert set(re.findall(r"--(\w+)", GONE[name])) <= KNOWN | ELSEWHERE
    with pytest.raises(RequestError, match=f"unknown flag `--{name}`; instead of it: "):
        parse_arguments([f"--{name}"])


@pytest.mark.parametrize(
    ("flag", "successor"),
    [
        ("no_cuda", "--use_cpu"),
        ("group_by_length", "--train_sampling_strategy group_by_length"),
        ("evaluation_strategy", "--eval_strategy"),
        ("warmup_ratio", "--warmup_steps 0.06"),
        ("logging_dir", "TENSORBOARD_LOGGING_DIR"),
        ("cache_dir", "HF_DATASETS_CACHE"),
        ("use_auth_token", "HF_TOKEN"),
    ],
)
def test_successors(flag, successor):
    with pytest.raises(RequestError, match=successor):
        parse_arguments([f"--{flag.replace('_', '-')}=1"])


def test_the_successors_do_what_the_old_flags_did():
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert not names.intersection({"no_cuda", "group_by_length", "evaluation_strategy", "warmup_ratio"})
    flags = ["--use_cpu", "--train_sampling_strategy", "group_by_length", "--eval_strategy", "epoch"]
    training = parse_arguments([*flags, "--warmup_steps", "0.06"]).training
    assert training.get_warmup_steps(1000) == 60
    assert training.device.type == "cpu"


def test_a_key_of_a_recipe_names_its_successor_too(tmp_path):
    recipe = tmp_path / "old.yaml"
    recipe.write_text("dataset_name: sample\nwarmup_ratio: 0.1\n")
    with pytest.raises(RequestError, match=r"old.yaml: unknown key `warmup_ratio`; instead of it: say --warmup_steps"):
        parse_arguments([str(recipe)])


def test_the_nearest_name():
    require_known(["seed"], ["seed"], "unknown flag", "--")
    with pytest.raises(RequestError, match=r"unknown flag `--sed`; the nearest known one is `--seed`"):
        require_known(["sed"], ["learning_rate", "seed"], "unknown flag", "--")
