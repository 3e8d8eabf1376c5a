"""Configs of `accelerate launch`: those for one process train on the CPU, the others are parsed by Accelerate."""

import os
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from builders import ROOT
from processes import LAUNCH, Run, ended_well, flags, run

from toxicity.hardware.kinds import KINDS

CONFIGS = {path.stem: path for path in (ROOT / "accelerate_configs").glob("*.yaml")}
MIXED_PRECISION = {
    "cpu": "bf16",
    "p100": "fp16",
    "v100": "fp16",
    "t4": "fp16",
    "ampere": "bf16",
    "hopper": "bf16",
    "multi_gpu": "fp16",
    "multi_node": "fp16",
    "fsdp": "bf16",
}


@pytest.mark.parametrize("name", MIXED_PRECISION)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(CONFIGS[name]))
    assert config.mixed_precision == MIXED_PRECISION[name]
    if name in KINDS:
        assert (config.distributed_type, config.num_processes) == ("NO", 1)
        # Without this the Trainer would spread a one-card run over every card in the machine.
        assert config.gpu_ids == (None if name == "cpu" else "0")
    else:
        assert config.num_processes > 1


def test_none_is_left_out():
    assert CONFIGS.keys() == MIXED_PRECISION.keys()


def test_several_cards_are_launched_as_such():
    assert load_config_from_file(str(CONFIGS["multi_gpu"])).distributed_type == "MULTI_GPU"
    nodes = load_config_from_file(str(CONFIGS["multi_node"]))
    assert (nodes.distributed_type, nodes.num_machines, nodes.machine_rank) == ("MULTI_GPU", 2, 0)
    sharded = load_config_from_file(str(CONFIGS["fsdp"]))
    assert sharded.distributed_type == "FSDP"
    assert sharded.fsdp_config["fsdp_version"] == 2


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_has_its_reason(name):
    lines = Path(CONFIGS[name]).read_text().splitlines()
    assert lines[0].startswith("# ")
    settings = [number for number, line in enumerate(lines) if not line.strip().startswith("#")]
    assert len(settings) <= 12
    for number in settings:
        # main_process_port goes with the address above it.
        if not lines[number].startswith(("main_process_port", "fsdp_config", "  fsdp_version", "use_cpu")):
            assert lines[number - 1].strip().startswith("#"), lines[number]


def launched_environment(name):
    """What `accelerate launch --cpu` with a config adds to the environment of the one process that it starts."""
    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIGS[name]), "--cpu", "run_toxicity.py"])
    _, environment = prepare_simple_launcher_cmd_env(_validate_launch_command(arguments)[0])
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


# A run takes seconds, so of configs with the same content only the first one is tested.
DISTINCT = {str(sorted(yaml.safe_load(CONFIGS[name].read_text()).items())): name for name in reversed(KINDS)}


@pytest.mark.parametrize("name", [*reversed(DISTINCT.values())])
def test_one_process_trains_with_it(checkpoint, comments_csv, tmp_path, name):
    # --cpu runs the config of a GPU on the CPU in the same precision, fp16 with its gradient scaler included.
    short = ["--max_steps", 2, "--max_train_samples", 16, "--max_eval_samples", 16]
    arguments = [*flags(checkpoint, comments_csv, tmp_path / "run"), *short]
    row = ended_well(Run(tmp_path / "process", *arguments, **launched_environment(name))).row
    # A processor without bf16 instructions works in fp32.
    expected = {"fp16"} if MIXED_PRECISION[name] == "fp16" else {"bf16", "no"}
    assert row["protocol"]["mixed_precision"] in expected
    assert row["machine"]["label"] == "cpu"


def test_a_gpu_config_does_not_start_without_a_gpu(checkpoint, comments_csv, tmp_path):
    command = [*LAUNCH, "--config_file", CONFIGS["v100"], "run_toxicity.py"]
    refused = run(*command, *flags(checkpoint, comments_csv, tmp_path / "run"), CUDA_VISIBLE_DEVICES="")
    assert refused.returncode != 0
    assert "fp16, which is for GPUs, was asked for" in refused.stderr
    assert not (tmp_path / "run").exists()
