"""Every config trains as Accelerate reads it if one process on a CPU can."""

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from builders import ROOT
from cards import Card, put_in
from launcher import launcher_environment
from processes import LAUNCH, Run, ended_well, flags, run

from toxicity.hardware.kinds import KINDS
from toxicity.hardware.precision import fastest_precision

CONFIGS = {path.stem: path for path in (ROOT / "accelerate_configs").glob("*.yaml")}
MIXED_PRECISION = {name: load_config_from_file(str(path)).mixed_precision for name, path in CONFIGS.items()}
GPUS = sorted(KINDS.keys() - {"cpu"})


@pytest.mark.parametrize("name", GPUS)
def test_a_kinds_config_has_the_fastest_precision_of_its_cards(name, monkeypatch):
    for capability in KINDS[name].capabilities:
        card = Card(KINDS[name].word, tuple(map(int, capability.split("."))))
        assert fastest_precision(put_in(monkeypatch, card)) == MIXED_PRECISION[name]


def test_a_cpu_computes_in_bf16_where_it_can():
    assert MIXED_PRECISION["cpu"] == "bf16"


@pytest.mark.parametrize("name", KINDS)
def test_one_card_is_one_process(name):
    config = load_config_from_file(str(CONFIGS[name]))
    assert (config.distributed_type, config.num_processes) == ("NO", 1)
    # It would win over the CUDA_VISIBLE_DEVICES of the user.
    assert config.gpu_ids is None


def test_kinds_of_gpu_differ_in_precision_alone():
    settings = [yaml.safe_load(CONFIGS[name].read_text()) | {"mixed_precision": "any"} for name in GPUS]
    assert settings == [settings[0]] * len(GPUS)


def test_several_cards_are_launched_as_such():
    several = {name: load_config_from_file(str(CONFIGS[name])) for name in CONFIGS.keys() - KINDS.keys()}
    assert several.keys() == {"multi_gpu", "multi_node", "fsdp"}
    assert all(config.num_processes > 1 for config in several.values())
    # The one that cards before Ampere have, too.
    assert MIXED_PRECISION["multi_gpu"] == MIXED_PRECISION["multi_node"] == "fp16"
    # The one without a loss scale, which would have to be agreed on across shards.
    assert MIXED_PRECISION["fsdp"] == "bf16"
    assert several["multi_gpu"].distributed_type == "MULTI_GPU"
    nodes, sharded = several["multi_node"], several["fsdp"]
    assert (nodes.distributed_type, nodes.num_machines, nodes.machine_rank) == ("MULTI_GPU", 2, 0)
    assert sharded.distributed_type == "FSDP"
    assert sharded.fsdp_config["fsdp_version"] == 2


# A launch takes seconds, so configs that say the same are launched once, under the first one's name.
DISTINCT = {str(sorted(yaml.safe_load(CONFIGS[name].read_text()).items())): name for name in reversed(KINDS)}


@pytest.mark.parametrize("name", [*reversed(DISTINCT.values())])
def test_one_process_trains_with_it(checkpoint, comments_csv, tmp_path, name):
    # --cpu puts a GPU's config on the processor, with its precision: fp16 and its gradient scaler too.
    short = ["--max_steps", 2, "--max_train_samples", 16, "--max_eval_samples", 16]
    settings = launcher_environment("--config_file", CONFIGS[name], "--cpu")
    row = ended_well(Run(tmp_path, *flags(checkpoint, comments_csv, tmp_path / "run"), *short, **settings)).row
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
