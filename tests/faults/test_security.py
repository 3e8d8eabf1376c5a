"""Nothing in a checkpoint, a data set or a recipe runs code, writes where it should not, or tells a secret."""

import contextlib
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from builders import make_comments, training_flags, write_comments, write_csv
from processes import Run, ended_well
from transformers import BertConfig, BertForSequenceClassification

from toxicity.core.arguments import ModelArguments
from toxicity.core.errors import RequestError
from toxicity.models.classifier import load_model
from toxicity.models.pretrained import refuse_pickled_weights
from toxicity.training.checkpoints import INDEX, read_index, seal

SECRET = "hf_" + "TaurusSecret" * 3


@pytest.fixture(scope="module")
def comments(tmp_path_factory):
    return write_comments(tmp_path_factory.mktemp("data") / "comments.csv")


def flags_for(output_dir, checkpoint, comments):
    saving = {"save_strategy": "steps", "save_steps": 5}
    return training_flags(checkpoint, comments, output_dir=output_dir, num_train_epochs=1, **saving)


@pytest.fixture
def flags(checkpoint, comments, tmp_path):
    return flags_for(tmp_path / "run", checkpoint, comments)


@pytest.fixture(scope="module")
def finished(checkpoint, comments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    ended_well(Run(folder, *flags_for(folder / "run", checkpoint, comments), HF_TOKEN=SECRET))
    return folder


@pytest.fixture
def saved(finished, tmp_path):
    """A checkpoint of a finished run, to be tampered with."""
    return Path(shutil.copytree(finished / "run" / "checkpoint-5", tmp_path / "run" / "checkpoint-5"))


class Trap:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def refused(run_main, capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        run_main(*flags)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_runs_no_code(flags, saved, tmp_path, run_main, capsys, name):
    folder = saved
    torch.save(Trap(tmp_path / "sprung"), folder / name)
    assert "is torn" in refused(run_main, capsys, *flags, "--resume_from_checkpoint", folder)
    # Whoever can write there can write the index too.
    facts = {k: v for k, v in read_index(folder).items() if k != "files"}
    seal(folder, facts)
    assert "holds a pickle of more than tensors" in refused(
        run_main, capsys, *flags, "--resume_from_checkpoint", folder
    )
    assert not (tmp_path / "sprung").exists()


def test_the_trap_is_one(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def pickled_model(folder, checkpoint, tiny_config, trap):
    shutil.copytree(checkpoint, folder)
    (folder / "model.safetensors").unlink()
    torch.save(Trap(trap), folder / "pytorch_model.bin")
    return folder


def test_a_model_that_is_a_pickle_is_refused_with_the_conversion_named(
    flags, checkpoint, tiny_config, tmp_path, run_main, capsys
):
    folder = pickled_model(tmp_path / "pickled", checkpoint, tiny_config, tmp_path / "sprung")
    errors = refused(run_main, capsys, *flags, "--model_name_or_path", folder)
    assert f"{folder} holds its weights as a pickle (pytorch_model.bin)" in errors
    assert f"AutoModel.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')" in errors
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("beside", ["adapter.safetensors", "model.safetensors.index.json"])
def test_safetensors_that_the_trainer_does_not_take_hide_no_pickle(tmp_path, beside):
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / beside).touch()
    with pytest.raises(RequestError, match="pytorch_model.bin"):
        refuse_pickled_weights(tmp_path)
    (tmp_path / "model.safetensors").touch()
    refuse_pickled_weights(tmp_path)


def test_nobody_is_asked_to_convert_a_pickle_of_the_hub(checkpoint, monkeypatch):
    asked = []
    monkeypatch.setattr("transformers.modeling_utils.auto_conversion", lambda *_, **__: asked.append(True))
    monkeypatch.setattr("transformers.modeling_utils.is_offline_mode", lambda: False)
    monkeypatch.setattr("transformers.modeling_utils.cached_file", lambda *_, **__: None)
    config = BertConfig.from_pretrained(checkpoint)
    with pytest.raises(RequestError, match="cannot load somebody/pickled.* python -c .*'pickled-safetensors'"):
        load_model(ModelArguments(model_name_or_path="somebody/pickled"), config)
    assert asked == []


def test_the_conversion_that_is_named_works(tiny_config, tokenizer, tmp_path):
    folder = tmp_path / "pickled"
    model = BertForSequenceClassification(tiny_config)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(RequestError) as refusal:
        refuse_pickled_weights(folder)
    exec(str(refusal.value).split('python -c "')[1].rstrip('"'), {})
    refuse_pickled_weights(f"{folder}-safetensors")


def test_a_checkpoint_whose_weights_are_a_pickle_is_refused(flags, saved, tmp_path, run_main, capsys):
    folder = saved
    (folder / "model.safetensors").unlink()
    torch.save(Trap(tmp_path / "sprung"), folder / "pytorch_model.bin")
    facts = {k: v for k, v in read_index(folder).items() if k != "files"}
    seal(folder, facts)
    assert "as a pickle" in refused(run_main, capsys, *flags, "--resume_from_checkpoint", folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("part", ["config", "tokenizer", "known type"])
def test_a_model_brings_no_code_of_its_own(flags, checkpoint, tmp_path, run_main, capsys, part):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    code = f"import pathlib; pathlib.Path({str(tmp_path / 'sprung')!r}).touch()\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code)
    name = "tokenizer_config.json" if part == "tokenizer" else "config.json"
    config = json.loads((folder / name).read_text())
    config["auto_map"] = {
        "AutoConfig": "evil.Evil",
        "AutoModelForSequenceClassification": "evil.Evil",
        "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    }
    if part == "config":
        config["model_type"] = "evil"
    (folder / name).write_text(json.dumps(config))
    if part == "config":
        assert "cannot load" in refused(run_main, capsys, *flags, "--model_name_or_path", folder)
    else:
        run_main(*flags, "--model_name_or_path", folder)
    assert not (tmp_path / "sprung").exists()


def test_a_dataset_brings_no_code_of_its_own(flags, tmp_path, run_main, capsys):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'sprung')!r}).touch()\n")
    dropped = flags[flags.index("--train_file") + 1]
    named = [flag for flag in flags if flag not in ("--train_file", dropped)]
    assert "cannot load the dataset" in refused(run_main, capsys, *named, "--dataset_name", folder)
    assert not (tmp_path / "sprung").exists()


def test_paths_in_the_data_and_the_recipe_write_nothing(flags, tmp_path, run_main):
    rows = [[f"../../id{i}", f"../../../{text}", label] for i, (text, label) in enumerate(make_comments(120))]
    comments = write_csv(tmp_path / "comments.csv", ["id", "comment_text", "target"], rows)
    with zipfile.ZipFile(tmp_path / "comments.zip", "w") as archive:
        archive.write(comments, "../../../outside.csv")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("report_to: tensorboard\nrun_name: ../../../run\nhub_model_id: ../../../hub\n")
    outside = set(tmp_path.parent.rglob("*"))
    run_main(recipe, *flags, "--train_file", tmp_path / "comments.zip")
    made = set(tmp_path.parent.rglob("*")) - outside
    homes = (tmp_path / "run", tmp_path / "cache")
    assert made
    assert all(any(path.is_relative_to(home) for home in homes) for path in made), made


def test_paths_in_an_index_are_not_followed(flags, saved, run_main, capsys):
    folder = saved
    index = json.loads((folder / INDEX).read_text())
    index["files"]["../../comments.csv"] = {"bytes": 1, "xxh3": ""}
    (folder / INDEX).write_text(json.dumps(index))
    assert "is torn" in refused(run_main, capsys, *flags, "--resume_from_checkpoint", folder)


def test_a_token_is_told_to_nobody(finished):
    # What it printed is among the files.
    files = [path for path in finished.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_token_on_the_command_line_stays_there(flags, tmp_path, run_main, capsys):
    # Refused or not, it must not be seen.
    with contextlib.suppress(SystemExit):
        run_main(*flags, "--hub_token", SECRET)
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
