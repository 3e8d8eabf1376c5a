import json
from concurrent.futures import wait
from pathlib import Path

import pytest
from hub_server import WRITE_TOKEN

from toxicity.core.errors import PublishError, RequestError
from toxicity.hub.publisher import Publisher


def publisher_of(trainer):
    return next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, Publisher))


def published(hub):
    return hub.files("tester/mine")


HUB = {"push_to_hub": True, "hub_model_id": "mine", "save_strategy": "steps", "save_steps": 4, "save_total_limit": 1}


EVERY_SAVE = HUB | {"hub_strategy": "every_save", "hub_always_push": True}


def test_checkpoints_are_published_while_training_goes_on(make_trainer, hub, tmp_path):
    trainer = make_trainer(**EVERY_SAVE, num_train_epochs=2)
    (tmp_path / "run" / "notes.txt").write_text("not for others")
    trainer.train()
    wait(publisher_of(trainer).uploads)
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
        wait(publisher_of(trainer).uploads)
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
        publisher_of(trainer).publish_run()
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    publisher_of(trainer).publish_run()
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
    under_way, waiting = publisher_of(trainer).uploads
    assert not under_way.done()
    with pytest.raises(PublishError, match="a checkpoint is still on its way") as stop:
        publisher_of(trainer).publish_run()
    assert f"To publish it: python -m toxicity.hub {tmp_path / 'run'} --repo tester/mine" in str(stop.value)
    assert waiting.cancelled(), "an older model than the one that is to come"
    assert len(list((tmp_path / "run").glob(".publishing*"))) == 1

    hub.heal()
    monkeypatch.setattr("toxicity.hub.push.SECONDS_FOR_A_CHECKPOINT", 60.0)
    publisher_of(trainer).publish_run()
    assert under_way.done()
    summaries = [json.loads(call.body.splitlines()[0])["value"]["summary"] for call in hub.calls("POST", "/commit/")]
    assert summaries == ["Training in progress, step 4", "Publish the model, its card and its benchmark"]
    assert published(hub)["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert not list((tmp_path / "run").glob(".publishing*"))


def test_the_end_is_published_by_the_allow_list_and_with_the_runs_own_card(make_trainer, hub, caplog):
    trainer = make_trainer(**HUB | {"hub_private_repo": True, "hub_revision": "tried"})
    trainer.train()
    trainer.save_model()
    finish(trainer)
    with caplog.at_level("INFO", logger="toxicity"):
        publisher_of(trainer).publish_run()
    assert f"Published: {hub.endpoint}/tester/mine" in caplog.text
    files = hub.files("tester/mine", "tried")
    assert set(files) == {
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        "report/benchmark.json",
    }
    assert files["README.md"] == b"# mine\n"
    assert published(hub) == {}
    assert hub.repos["tester/mine"].private


def test_the_upload_of_the_trainer_itself_is_refused(make_trainer, hub):
    with pytest.raises(RequestError, match="published by the callback Publisher"):
        make_trainer(**HUB).push_to_hub()
    assert published(hub) == {}


def test_a_checkpoint_is_not_published_while_another_is_under_way(make_trainer, hub):
    trainer = make_trainer(**EVERY_SAVE | {"hub_always_push": False})
    hub.hang("POST", "/preupload/")
    trainer.train()
    (under_way,) = publisher_of(trainer).uploads
    hub.heal()
    wait([under_way])
    summaries = [json.loads(call.body.splitlines()[0])["value"]["summary"] for call in hub.calls("POST", "/commit/")]
    assert summaries == ["Training in progress, step 4"]


def test_a_disk_without_room_for_an_upload_stops_nothing(make_trainer, hub, caplog, monkeypatch):
    def fail(*arguments):
        raise OSError("no room")

    monkeypatch.setattr("toxicity.hub.publisher.push_checkpoint", fail)
    trainer = make_trainer(**EVERY_SAVE)
    with caplog.at_level("WARNING", logger="toxicity"):
        trainer.train()
    assert trainer.state.global_step == 8
    assert "checkpoint-8 was not published, and training goes on: no room" in caplog.text
