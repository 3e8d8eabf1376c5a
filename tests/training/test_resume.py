"""The choice of a checkpoint to go on from, and the record of interruptions."""

import pytest
from datasets import Dataset

from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import LABEL
from toxicity.training.request import describe_request, differences
from toxicity.training.resume import FINISHED, NOTE, Checkpoints


def test_a_start_without_a_checkpoint_is_a_start(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="toxicity"):
        assert Checkpoints(tmp_path / "run").choose("auto") is None
    assert "There is no whole checkpoint" in caplog.text
    assert Checkpoints(tmp_path / "run").choose(None) is None
    with pytest.raises(RequestError, match="there is no checkpoint nowhere: --resume_from_checkpoint auto"):
        Checkpoints(tmp_path / "run").choose("nowhere")


def test_a_run_that_died_before_its_first_checkpoint_is_counted(tmp_path):
    first = Checkpoints(tmp_path, {"seed": 1}, {"seconds": 60.0})
    first.note_progress(7)
    second = Checkpoints(tmp_path, {"seed": 1}, {"seconds": 0.1})
    assert second.choose("auto") is None
    assert [(part["step"], part["repeated_steps"]) for part in second.interruptions] == [(0, 7)]
    assert second.run_id == first.run_id
    assert second.tokenizing == {"seconds": 60.0}, "the comments were in the cache the second time"
    other = Checkpoints(tmp_path, {"seed": 2})
    other.choose("auto")
    assert other.interruptions == []


def test_a_run_of_before_an_option_was_removed_is_still_counted(tmp_path):
    Checkpoints(tmp_path, {"seed": 1, "ema_decay": 0.0}).note_progress(7)
    again = Checkpoints(tmp_path, {"seed": 1})
    again.choose("auto")
    assert [part["repeated_steps"] for part in again.interruptions] == [7]
    (tmp_path / NOTE).unlink()
    Checkpoints(tmp_path, {"seed": 1, "ema_decay": 0.9}).note_progress(7)
    another = Checkpoints(tmp_path, {"seed": 1})
    another.choose("auto")
    assert another.interruptions == []


@pytest.mark.parametrize("note", ["[" * 100_000, "[]", "{}", '{"run_id": 1, "step": "x"}', "\ud800"])
def test_a_damaged_note_is_none(tmp_path, note):
    (tmp_path / NOTE).write_text(note, errors="surrogatepass")
    again = Checkpoints(tmp_path)
    assert again.choose("auto") is None
    assert again.interruptions == []


def saved(tmp_path, step, **request):
    """A run that has saved a step, and noted that it came so far."""
    run = Checkpoints(tmp_path, request)
    facts = {"resumable": True, "progress": {}}
    run.save(step, lambda folder: (folder / "model.safetensors").touch(), lambda: facts, writer=True)
    run.note_progress(step)
    return run


@pytest.mark.parametrize(("step", "repeated"), [(8, []), (12, [4])])
def test_a_run_that_was_finished_is_not_interrupted_by_another_look_at_it(tmp_path, step, repeated):
    saved(tmp_path, 8).note_progress(step, cause=FINISHED, trained=True)
    again = Checkpoints(tmp_path)
    assert again.choose("auto") == str(tmp_path / "checkpoint-8")
    assert [part["repeated_steps"] for part in again.interruptions] == repeated
    assert all(part["cause"] == "unknown" for part in again.interruptions)


def test_a_start_beside_the_checkpoints_of_another_run_is_told(tmp_path, caplog):
    earlier, later = saved(tmp_path, 8), Checkpoints(tmp_path)
    with caplog.at_level("WARNING", logger="toxicity"):
        assert later.choose(None) is None
        assert f"Starting anew beside {tmp_path / 'checkpoint-8'} of an earlier run" in caplog.text
        assert "--resume_from_checkpoint auto would go on with it" in caplog.text
        later.note_progress(3)
        third = Checkpoints(tmp_path)
        assert third.choose("auto") == str(tmp_path / "checkpoint-8")
    assert third.run_id == earlier.run_id
    assert "left no whole checkpoint" in caplog.text
    assert "is of the one before it, which is gone on with" in caplog.text


def test_another_number_of_processes_is_told(tmp_path, caplog, monkeypatch):
    saved(tmp_path, 8)
    monkeypatch.setattr("toxicity.core.distributed.world_size", lambda: 2)
    with caplog.at_level("WARNING", logger="toxicity"):
        Checkpoints(tmp_path)._decide("auto")
    assert "checkpoint-8 is of 1 processes, and these are 2: dropout draws different random numbers" in caplog.text


def test_a_checkpoint_that_is_not_on_every_machine_is_refused_with_the_machine_named(tmp_path, monkeypatch):
    # As it looks to a process that was told of a folder of another machine.
    monkeypatch.setattr("toxicity.core.distributed.run_on_main", lambda _: {"folder": str(tmp_path / "checkpoint-8")})
    monkeypatch.setattr("platform.node", lambda: "the-second")
    with pytest.raises(RequestError, match="checkpoint-8, which is not on the-second, the machine of process 0"):
        Checkpoints(tmp_path).choose("auto")


def test_differences_are_parts_of_a_sentence():
    saved = {"training comments": "a", "seed": 1, "batch size": 8}
    assert differences(saved, saved) == []
    assert differences(saved, saved | {"training comments": "b"}) == ["the training comments are others"]
    assert differences(saved, saved | {"loss": "soft"}) == ["loss was None and is soft"]
    assert differences(saved | {"ema_decay": 0.0}, saved) == []
    assert differences(saved | {"ema_decay": 0.9}, saved) == ["ema_decay was 0.9 and is no longer an option"]


def test_a_run_of_before_there_was_an_option_can_be_gone_on_with():
    rows = Dataset.from_dict({"input_ids": [[5, 6]], "length": [2], "labels": [1.0]})

    def asked(*flags):
        return describe_request(parse_arguments(["--train_file", "a.csv", *flags]), (LABEL,), rows, rows)

    before = {name: value for name, value in asked().items() if name != "counterfactual_pairing"}
    assert differences(before, asked()) == []
    paired = asked("--counterfactuals", "2", "--counterfactual_pairing", "0.5")
    assert differences(before, paired) == ["counterfactual_pairing was None and is 0.5"]
    assert differences(paired, asked()) == ["counterfactual_pairing was 0.5 and is None"]


def test_true_is_the_newest_checkpoint_and_there_has_to_be_one(tmp_path):
    with pytest.raises(RequestError, match=f"no whole checkpoint in {tmp_path}.*--resume_from_checkpoint auto"):
        Checkpoints(tmp_path).choose("true")
    saved(tmp_path, 4)
    saved(tmp_path, 8)
    assert Checkpoints(tmp_path).choose("true") == str(tmp_path / "checkpoint-8")
