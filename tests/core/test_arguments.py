import os
from types import SimpleNamespace

import pytest
import torch

from toxicity.core.arguments import SAMPLE_RECIPE, parse_arguments
from toxicity.core.errors import RequestError
from toxicity.core.training_arguments import TrainingArguments


@pytest.fixture
def write_recipe(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def recipe(write_recipe):
    return write_recipe("dataset_name: sample\nlearning_rate: 3e-5\nmax_train_samples: 50\n")


def test_without_a_recipe_it_is_the_sample():
    arguments = parse_arguments([])
    assert arguments.recipe == "sample"
    assert arguments.data.dataset_name == "sample"
    assert SAMPLE_RECIPE.is_file()


def test_flags_win_over_the_recipe(recipe):
    arguments = parse_arguments([recipe, "--learning_rate", "1e-4"])
    assert arguments.recipe == "mine"
    assert arguments.training.learning_rate == 1e-4
    assert arguments.data.max_train_samples == 50


def test_yaml_reads_3e_minus_5_as_text_but_it_is_a_number(recipe):
    assert parse_arguments([recipe]).training.learning_rate == 3e-5


def test_a_file_named_by_flag_replaces_the_recipes_dataset(recipe):
    arguments = parse_arguments([recipe, "--train_file=mine.csv"])
    assert arguments.data.dataset_name is None
    assert arguments.data.train_file == "mine.csv"


def test_the_recipes_sizes_are_those_of_its_own_data(recipe, write_recipe):
    assert parse_arguments([recipe, "--train_file=mine.csv"]).data.max_train_samples is None
    without_data = write_recipe("max_train_samples: 50\n")
    assert parse_arguments([without_data, "--train_file=mine.csv"]).data.max_train_samples == 50


def test_the_recipes_overrides_are_those_of_its_own_model():
    assert parse_arguments([]).model.config_overrides
    assert parse_arguments(["--model_name_or_path", "mine"]).model.config_overrides is None


@pytest.mark.parametrize("recipe", [[], [os.path.relpath(SAMPLE_RECIPE)]])
def test_length_and_head_bias_of_the_sample_recipe_are_those_of_its_own_data_and_model(recipe):
    assert parse_arguments(recipe).data.max_seq_length == 512
    assert parse_arguments(recipe).objective.init_head_bias
    for flags in (["--train_file", "mine.csv"], ["--model_name_or_path", "mine"]):
        assert parse_arguments([*recipe, *flags]).data.max_seq_length == 220
        assert not parse_arguments([*recipe, *flags]).objective.init_head_bias
        assert parse_arguments([*recipe, *flags, "--max_seq_length", "300"]).data.max_seq_length == 300


def test_another_recipe_keeps_its_length(write_recipe):
    recipe = write_recipe("dataset_name: sample\nmax_seq_length: 128\n")
    flags = ["--train_file", "mine.csv", "--model_name_or_path", "mine"]
    assert parse_arguments([recipe, *flags]).data.max_seq_length == 128


def test_dashes_do_as_well_as_underscores(recipe):
    assert parse_arguments([recipe, "--train-file", "mine.csv"]).data.dataset_name is None


@pytest.mark.parametrize("value", ["true", "false"])
def test_booleans_and_nulls_of_a_recipe(write_recipe, value):
    recipe = write_recipe(f"dataset_name: sample\noverwrite_cache: {value}\nmax_eval_samples: null\n")
    arguments = parse_arguments([recipe])
    assert arguments.data.overwrite_cache is (value == "true")
    assert arguments.data.max_eval_samples is None


def test_an_unknown_flag_names_the_nearest_one():
    with pytest.raises(RequestError, match="`--max_seq_len`.*`--max_seq_length`"):
        parse_arguments(["--max_seq_len", "3"])


def test_an_unknown_key_names_the_nearest_one(write_recipe):
    with pytest.raises(RequestError, match=r"mine.yaml: unknown key `learning_rat`.*`learning_rate`"):
        parse_arguments([write_recipe("learning_rat: 1e-4\n")])


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not YAML"), ("- 1", "key: value"), ("", "key: value"), ("\xff", "not YAML")],
)
def test_a_recipe_that_is_none(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match=message):
        parse_arguments([str(path)])


def test_a_recipe_that_is_not_there():
    with pytest.raises(RequestError, match="cannot read the recipe nowhere.yaml"):
        parse_arguments(["nowhere.yaml"])


def test_a_value_of_the_wrong_type(write_recipe):
    with pytest.raises(RequestError, match="^argument --max_seq_length.*'many'"):
        parse_arguments(["--max_seq_length", "many"])
    with pytest.raises(RequestError, match="mine.yaml: argument --learning_rate.*'fast'"):
        parse_arguments([write_recipe("dataset_name: sample\nlearning_rate: fast\n")])


def test_a_recipe_behind_the_flags():
    with pytest.raises(RequestError, match="cannot place `recipes/sample.yaml`: the recipe comes first"):
        parse_arguments(["--seed", "3", "recipes/sample.yaml"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "a.csv", "--dataset_name", "sample"], "both name the data"),
        (["--validation_file", "a.csv"], "--train_file beside it"),
        (["--max_seq_length", "2"], "least that works is 3"),
        (["--label_smoothing_factor", "0.1"], "no effect"),
        (["--prediction_loss_only"], "needs all scores"),
        (["--enable_jit_checkpoint", "true"], "handling of SIGTERM, which saves a checkpoint"),
        (["--per_device_train_batch_size", "0"], "least that works is 1"),
        (["--max_tokens_per_batch", "many"], "a number of tokens, or auto"),
        (["--max_tokens_per_batch", "0"], "a number of tokens, or auto"),
        (["--output_dir", __file__], "is a file"),
        (["--max_train_samples", "0"], "least that works is 1"),
        (["--push_to_hub", "--hub_model_id", "datasets/me/x"], "NAME or OWNER/NAME"),
        (["--push_to_hub", "--output_dir", "runs/not a name"], "NAME or OWNER/NAME"),
        (["--push_to_hub", "--hub_strategy", "checkpoint"], "would publish the optimizer's state .* every_save"),
        (["--push_to_hub", "--hub_strategy", "all_checkpoints"], "would publish the optimizer's state"),
        (
            ["--load_best_model_at_end", "true", "--save_strategy", "steps", "--eval_strategy", "epoch"],
            "save and eval strategy to match",
        ),
    ],
)
def test_values_that_do_not_go_together(flags, message):
    with pytest.raises(RequestError, match=message):
        parse_arguments(flags)


def test_a_token_is_no_flag_and_is_not_repeated():
    with pytest.raises(RequestError, match="HF_TOKEN") as refusal:
        parse_arguments(["--hub_token", "hf_secret"])
    assert "hf_secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("device", "budget", "fsdp", "cut", "by_memory"),
    [
        ("cpu", "auto", False, True, False),
        ("cpu", "7000", False, True, False),
        ("cpu", None, False, False, False),
        ("mps", None, False, False, False),
        ("cuda", None, False, True, True),
        ("cuda", "auto", False, True, True),
        ("cuda", "7000", False, True, False),
        ("cuda", None, True, False, False),
    ],
)
def test_a_step_that_is_cut_by_tokens_keeps_its_comments(monkeypatch, device, budget, fsdp, cut, by_memory):
    monkeypatch.setattr(TrainingArguments, "device", torch.device(device))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(fsdp).lower())
    flags = ["--per_device_train_batch_size", "32", "--gradient_accumulation_steps", "2"]
    flags += [] if budget is None else ["--max_tokens_per_batch", budget]
    training = parse_arguments(flags).training
    assert training.max_tokens_per_batch == budget, "as it was given: a run may go on elsewhere"
    rows, steps = training.per_device_train_batch_size, training.gradient_accumulation_steps
    assert (rows, steps) == ((64, 1) if cut else (32, 2))
    assert training.cut_by_memory == by_memory


@pytest.mark.parametrize(
    ("flag", "variable", "sharded"),
    [(None, None, False), (None, "false", False), (None, "True", True), (True, None, True), ("full_shard", None, True)],
)
def test_a_model_is_sharded_by_a_flag_or_by_the_config_of_accelerate(monkeypatch, flag, variable, sharded):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    if variable:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", variable)
    assert TrainingArguments.is_sharded.fget(SimpleNamespace(fsdp=flag)) is sharded


def test_a_machine_may_be_named():
    machine = parse_arguments(["--gpu", "P100", "--allow_other_gpu"]).machine
    assert (machine.gpu, machine.allow_other_gpu) == ("P100", True)


@pytest.mark.parametrize(("recipe_name", "epochs"), [("reference", 1), ("reference_2_epochs", 2)])
def test_the_reference_is_the_published_protocol(recipe_name, epochs):
    path = str(SAMPLE_RECIPE.with_name(f"{recipe_name}.yaml"))
    with pytest.raises(RequestError, match="--train_file"):
        parse_arguments([path])
    arguments = parse_arguments([path, "--train_file", "train.csv"])
    data, training = arguments.data, arguments.training
    assert (data.max_train_samples, data.max_eval_samples, data.max_seq_length) == (1_000_000, 500_000, 220)
    assert arguments.model.model_name_or_path == "google-bert/bert-base-uncased"
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (32, 2)
    assert (training.learning_rate, training.num_train_epochs, training.seed) == (2e-5, epochs, 1234)
    assert (training.lr_scheduler_type, training.warmup_steps, training.max_grad_norm) == ("constant", 0, 0)
    assert training.train_sampling_strategy == "random"


def test_help_renders(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--help"])
    assert stop.value.code == 0
    assert "--max_seq_length" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", sorted(path.name for path in SAMPLE_RECIPE.parent.glob("*.yaml")))
def test_every_recipe_can_be_read(recipe, comments_csv, tmp_path):
    source = () if recipe == "sample.yaml" else ("--train_file", str(comments_csv))
    arguments = parse_arguments([str(SAMPLE_RECIPE.parent / recipe), *source])
    assert arguments.recipe == recipe.removesuffix(".yaml")
    assert arguments.training.output_dir == f"runs/{arguments.recipe}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layerwise_lr_decay", "1.2"], "--layerwise_lr_decay is 1.2; give a number between 0 and 1, or 1 for off"),
        (["--later_negatives", "-0.5"], "--later_negatives is -0.5; give a number"),
        (["--later_negatives", "0.5", "--max_steps", "9"], "leave --max_steps and"),
        (["--later_negatives", "0.5", "--dataloader_drop_last", "true"], "and --dataloader_drop_last out"),
        (["--later_negatives", "0.5", "--train_sampling_strategy", "sequential"], "is random, group_by_length"),
        (["--train_sampling_strategy", "batch_rebalance"], "is random, group_by_length, sequential"),
        (["--early_stopping_patience", "2", "--metric_for_best_model", "eval_loss"], "goes by an AUC"),
        (["--early_stopping_patience", "-1"], "the least is 0"),
        (["--auxiliary_targets", "irony"], "subtypes and identities, and not irony"),
        (["--targets", "fuzzy"], "invalid choice: 'fuzzy'"),
    ],
)
def test_options_of_training_are_checked(flags, message):
    with pytest.raises(RequestError, match=message):
        parse_arguments(flags)


def test_early_stopping_evaluates_and_keeps_the_best():
    training = parse_arguments(["--early_stopping_patience", "2"]).training
    assert (training.eval_strategy, training.save_strategy) == ("epoch", "epoch")
    assert (training.metric_for_best_model, training.greater_is_better) == ("auc", True)
    steps = parse_arguments(
        ["--early_stopping_patience", "2", "--eval_strategy", "steps", "--eval_steps", "50"]
    ).training
    assert (steps.save_strategy, steps.save_steps, steps.load_best_model_at_end) == ("steps", 50, True)
    logged = parse_arguments(["--early_stopping_patience", "2", "--eval_strategy", "steps"]).training
    assert logged.save_steps == logged.eval_steps == logged.logging_steps


def test_the_auxiliary_targets_of_a_recipe_can_be_left_out(comments_csv):
    recipe = [str(SAMPLE_RECIPE.parent / "best.yaml"), "--train_file", str(comments_csv)]
    assert parse_arguments(recipe).objective.auxiliary_targets == ["subtypes", "identities"]
    assert parse_arguments([*recipe, "--auxiliary_targets", "none"]).objective.auxiliary_targets == []


def test_checkpoints_that_are_not_what_is_evaluated_are_not_published():
    flags = ["--push_to_hub", "true", "--hub_strategy", "every_save", "--hub_model_id", "somebody/model"]
    assert parse_arguments(flags).training.push_to_hub
    with pytest.raises(RequestError, match="choose --hub_strategy end"):
        parse_arguments([*flags, "--auxiliary_targets", "subtypes"])
