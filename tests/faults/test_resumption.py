"""Runs of the real script that are killed, resumed, and end with the weights of an uninterrupted run."""

import json
import random
import shutil

import pytest
from builders import training_flags, write_comments
from processes import Run, ended_well

from toxicity.training.checkpoints import fault_of

STEPS, SAVE_STEPS = 30, 4


@pytest.fixture(scope="module")
def comments(tmp_path_factory):
    return write_comments(tmp_path_factory.mktemp("data") / "comments.csv")


@pytest.fixture(scope="module")
def flags(checkpoint, comments):
    """Three epochs of ten steps, with dropout, that are saved every fourth."""
    options = {"config_overrides": "hidden_dropout_prob=0.1", "learning_rate": 1e-3, "logging_steps": 3}
    saving = {"save_strategy": "steps", "save_steps": SAVE_STEPS}
    return training_flags(checkpoint, comments, num_train_epochs=3, **options, **saving)


@pytest.fixture(scope="module")
def uninterrupted(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return ended_well(Run(folder, *flags, "--output_dir", folder / "run")), folder / "run"


def final_state(output_dir):
    """Weights, and the log of the training without what hangs on the clock."""
    weights = (output_dir / "model.safetensors").read_bytes()
    *_, last = sorted(output_dir.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    log = json.loads((last / "trainer_state.json").read_text())["log_history"]
    clocks = ("runtime", "per_second")
    return weights, [{k: v for k, v in entry.items() if not k.endswith(clocks)} for entry in log]


def parts(run):
    """Where a run was taken up again, and why it had stopped."""
    return [(part["step"], part["cause"]) for part in run.row["timing"]["interruptions"]]


def test_killed_and_resumed_it_ends_with_the_same_weights(flags, uninterrupted, tmp_path):
    reference, reference_dir = uninterrupted
    options = [*flags, "--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto"]
    for step in (1, 9, 22):
        assert Run(tmp_path, *options, fault=("kill_at_step", step)).ended() == -9
    done = ended_well(Run(tmp_path, *options))
    assert final_state(tmp_path / "run") == final_state(reference_dir)
    assert done.row["metrics"] == reference.row["metrics"]
    timing, throughput = done.row["timing"], done.row["throughput"]
    assert timing["resumed"]
    assert not timing["tokenizer_cache_hit"], "that of the first part, which died before its first checkpoint"
    assert parts(done) == [(0, "unknown"), (8, "unknown"), (20, "unknown")]
    assert [part["repeated_steps"] for part in timing["interruptions"]] == [0, 1, 1]
    assert throughput["training_rows_per_second"] * timing["training_seconds"] == pytest.approx(3 * 80)
    assert throughput["tokenizer_rows_per_second"] * timing["tokenizer_seconds"] == pytest.approx(120)


def test_killed_while_saving_it_goes_on_from_the_one_before(flags, uninterrupted, tmp_path):
    options = [*flags, "--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto", "--save_total_limit", 1]
    assert Run(tmp_path, *options, fault=("kill_while_saving", 3)).ended() == -9
    assert (tmp_path / "run" / ".checkpoint-12.unfinished" / "model.safetensors").exists()
    assert fault_of(tmp_path / "run" / "checkpoint-8") is None
    done = ended_well(Run(tmp_path, *options))
    assert f"Passed over {tmp_path / 'run' / 'checkpoint-12'}: it was being written" in done.errors
    assert parts(done) == [(8, "unknown")]
    assert final_state(tmp_path / "run") == final_state(uninterrupted[1])
    assert [folder.name for folder in (tmp_path / "run").glob("*checkpoint-*")] == ["checkpoint-30"]


def test_a_torn_checkpoint_is_named_and_passed_over(flags, uninterrupted, tmp_path):
    output_dir = tmp_path / "run"
    shutil.copytree(uninterrupted[1], output_dir)
    for step in (28, 30):
        with (output_dir / f"checkpoint-{step}" / "optimizer.pt").open("r+b") as file:
            file.truncate(1000)
    done = ended_well(Run(tmp_path, *flags, "--output_dir", output_dir, "--resume_from_checkpoint", "auto"))
    for step in (28, 30):
        assert f"Passed over {output_dir / f'checkpoint-{step}'}: it is torn: optimizer.pt has 1,000" in done.errors
    assert parts(done)[0][0] == 24
    assert final_state(output_dir) == final_state(uninterrupted[1])


def test_a_torn_one_that_was_asked_for_by_name_is_refused(flags, uninterrupted, tmp_path, run_main, capsys):
    shutil.copytree(uninterrupted[1] / "checkpoint-8", tmp_path / "checkpoint-8")
    (tmp_path / "checkpoint-8" / "rng_state.pth").unlink()
    with pytest.raises(SystemExit) as stop:
        run_main(*flags, "--output_dir", tmp_path / "run", "--resume_from_checkpoint", tmp_path / "checkpoint-8")
    assert stop.value.code == 2
    assert "checkpoint-8 is torn: rng_state.pth is missing" in capsys.readouterr().err


def others(comments, tmp_path):
    """The same rows, one of them with another word."""
    text = comments.read_text()
    (tmp_path / "others.csv").write_text(text.replace("garden", "gate", 1))
    return tmp_path / "others.csv"


CHANGES = {
    "data": (lambda *where: ["--train_file", others(*where)], "comments are others"),
    "rows": (lambda *_: ["--max_train_samples", 60, "--max_eval_samples", 40], "training comments are others"),
    "length": (lambda *_: ["--max_seq_length", 30], "max_seq_length was 32 and is 30"),
    "model": (lambda *_: ["--config_overrides", "hidden_dropout_prob=0"], "config_overrides was hidden_dropout_prob"),
    "seed": (lambda *_: ["--seed", 5], "seed was 1234 and is 5"),
    "batch size": (lambda *_: ["--per_device_train_batch_size", 16], "batch size was 8 and is 16"),
    "recipe": (lambda *_: ["--learning_rate", 1e-4], "learning_rate was 0.001 and is 0.0001"),
    "choice": (
        lambda *_: [
            "--load_best_model_at_end",
            "--metric_for_best_model",
            "auc",
            "--eval_strategy",
            "steps",
            "--eval_steps",
            4,
        ],
        "load_best_model_at_end was False and is True",
    ),
    "order": (lambda *_: ["--train_sampling_strategy", "group_by_length"], "train_sampling_strategy was random and"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_request_is_refused_with_the_difference_named(
    flags, uninterrupted, comments, tmp_path, run_main, capsys, change
):
    make_flags, message = CHANGES[change]
    before = final_state(uninterrupted[1])
    resume = ["--output_dir", uninterrupted[1], "--resume_from_checkpoint", "auto", *make_flags(comments, tmp_path)]
    with pytest.raises(SystemExit) as stop:
        run_main(*flags, *resume)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "start anew in another --output_dir" in errors
    assert final_state(uninterrupted[1]) == before


def test_the_same_comments_elsewhere_and_a_batch_cut_otherwise_are_the_same_request(
    flags, uninterrupted, comments, tmp_path, run_main
):
    shutil.copytree(uninterrupted[1], tmp_path / "run")
    shutil.copy(comments, tmp_path / "moved.csv")
    same = ["--train_file", tmp_path / "moved.csv", "--preprocessing_num_workers", 1]
    same += ["--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 2, "--max_tokens_per_batch", 100]
    run_main(*flags, "--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto", *same)


def test_checkpoints_without_the_optimiser_are_no_place_to_go_on_from(flags, tmp_path, run_main, capsys):
    options = [*flags, "--output_dir", tmp_path / "run", "--num_train_epochs", 1]
    run_main(*options, "--save_only_model")
    with pytest.raises(SystemExit) as stop:
        run_main(*options, "--resume_from_checkpoint", "auto")
    assert stop.value.code == 2
    assert "written with --save_only_model" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(
    "variant",
    [
        ["--train_sampling_strategy", "group_by_length"],
        ["--train_sampling_strategy", "random"],
        ["--gradient_accumulation_steps", 3, "--per_device_train_batch_size", 3],
        ["--eval_strategy", "steps", "--eval_steps", 6, "--metric_for_best_model", "auc", "--save_total_limit", 2],
        ["--eval_strategy", "epoch", "--save_steps", 5],
    ],
    ids=["by length", "random", "accumulating", "evaluating", "evaluating epochs"],
)
def test_ten_kills_at_random_steps(flags, tmp_path, variant):
    random.seed(str(variant))
    options = [*flags, *variant]
    ended_well(Run(tmp_path, *options, "--output_dir", tmp_path / "whole"))
    options += ["--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto"]
    every, step = variant[variant.index("--save_steps") + 1] if "--save_steps" in variant else SAVE_STEPS, 0
    for _ in range(10):
        # Not always forwards: it may die before it has come as far as the time before.
        step = random.randint(step - step % every, min(step + 5, STEPS - 4))
        assert Run(tmp_path, *options, fault=("kill_at_step", step)).ended() == -9
    done = ended_well(Run(tmp_path, *options))
    assert final_state(tmp_path / "run") == final_state(tmp_path / "whole")
    whole = json.loads((tmp_path / "whole" / "report" / "benchmark.json").read_text())
    assert done.row["metrics"] == whole["metrics"]
    assert len(done.row["timing"]["interruptions"]) == 10
    rows = done.row["throughput"]["training_rows_per_second"] * done.row["timing"]["training_seconds"]
    assert rows == pytest.approx(3 * 80)
    assert done.row["timing"]["training_seconds"] > 0.5 * whole["timing"]["training_seconds"]


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_kills_in_mixed_precision(flags, tmp_path, precision):
    environment = {"ACCELERATE_MIXED_PRECISION": precision}
    ended_well(Run(tmp_path, *flags, "--output_dir", tmp_path / "whole", **environment))
    options = [*flags, "--output_dir", tmp_path / "run", "--resume_from_checkpoint", "auto"]
    for step in (6, 17):
        assert Run(tmp_path, *options, fault=("kill_at_step", step), **environment).ended() == -9
    ended_well(Run(tmp_path, *options, **environment))
    assert final_state(tmp_path / "run") == final_state(tmp_path / "whole")


def test_a_checkpoint_is_made_when_its_time_has_come(flags, tmp_path):
    options = [*flags, "--save_strategy", "no", "--save_minutes", 0.005, "--output_dir", tmp_path / "run"]
    done = ended_well(Run(tmp_path, *options, fault=("slow_steps", 0.1)))
    made = list((tmp_path / "run").glob("checkpoint-*"))
    assert 1 <= len(made) < STEPS
    assert all(fault_of(folder) is None for folder in made)
    assert 0 < done.row["timing"]["checkpoint_seconds"] < 0.05 * done.row["timing"]["training_seconds"]


def test_nothing_is_left_of_a_run_but_what_the_contract_says(uninterrupted):
    _, output_dir = uninterrupted
    assert not list(output_dir.rglob("*.unfinished"))
    assert not list(output_dir.rglob("*.bin")), "no pickled arguments, no pickled weights"
    assert [path.name for path in output_dir.glob(".*")] == [".progress.json"]
