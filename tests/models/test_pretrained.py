"""Models that others made: weights as pickles and how to convert them, and what is no model of transformers."""

import re
import subprocess

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from toxicity.core.errors import RequestError
from toxicity.models.pretrained import (
    _conversion,
    load_classifier,
    load_config_and_tokenizer,
    load_errors_explained,
    refuse_pickled_weights,
)

TEXTS = ["thank you", "you are a liar"]
CLASSIFIER = "AutoModelForSequenceClassification"


def logits(folder, tokenizer):
    model = load_classifier(str(folder), "main", BertConfig.from_pretrained(folder), padding_free=False).eval()
    with torch.no_grad():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.tolist()


def pickled(folder):
    """Turn the weights in a folder into a pickle."""
    model = BertForSequenceClassification.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_the_command_that_is_named_keeps_the_head(model_dir, tokenizer, tmp_path):
    expected = logits(model_dir, tokenizer)
    folder = model_dir.rename(tmp_path / 'Ann\'s "best" $model')
    pickled(folder)
    with pytest.raises(RequestError) as refusal:
        refuse_pickled_weights(folder)
    command = re.search(r"python -c .*", str(refusal.value), re.DOTALL)[0]
    # What a shell makes of it; a Python of its own would take seconds to import transformers.
    _, flag, code = subprocess.run(
        f"printf '%s\\0' {command}", shell=True, check=True, capture_output=True, text=True
    ).stdout.split("\0")[:-1]
    assert flag == "-c"
    exec(code, {})
    assert logits(f"{folder}-safetensors", tokenizer) == expected


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, CLASSIFIER),
        ({"architectures": ["BertForMaskedLM"], "id2label": {}}, "AutoModel"),
        ({"architectures": ["BertModel"]}, "AutoModel"),
        ({"id2label": {"0": "toxic"}}, CLASSIFIER),
        ({"problem_type": "multi_label_classification"}, CLASSIFIER),
        ({"architectures": None}, "AutoModel"),
    ],
)
def test_the_class_is_that_of_the_checkpoint(config, kind):
    assert f'python -c "from transformers import {kind}, AutoTokenizer; {kind}.from_p' in _conversion("a/b", config)
    assert "from_pretrained('a/b', revision='v2').save_pretrained('b-safetensors')" in _conversion("a/b", config, "v2")


def test_a_pickle_that_transformers_does_not_read_has_no_command(tmp_path):
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(RequestError, match=r"as a pickle \(model.ckpt\).* with the program that wrote it") as refusal:
        refuse_pickled_weights(tmp_path)
    assert "python -c" not in str(refusal.value)


def load(folder):
    with load_errors_explained(str(folder), "ADVICE"):
        config, _ = load_config_and_tokenizer(str(folder), "main")
        load_classifier(str(folder), "main", config)


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [
        (["config.json", "model.safetensors"], "adapter_config.json", "PEFT adapter .* `merge_and_unload"),
        (["model.safetensors"], "adapter_config.json", "PEFT adapter"),
        (["model.safetensors"], "tf_model.h5", "weights of TensorFlow"),
        (["config.json", "model.safetensors", "tokenizer.json"], "lid.176.ftz", "a model of fastText"),
        (["model.safetensors"], None, "cannot load .* no file named model.safetensors .* ADVICE$"),
        (["tokenizer.json", "tokenizer_config.json"], None, "has no tokenizer that can be read"),
        (["tokenizer.json"], "tokenizer.pkl", "has no tokenizer that can be read"),
    ],
)
def test_what_is_no_model_of_transformers_is_called_by_its_name(model_dir, removed, added, message):
    for name in removed:
        (model_dir / name).unlink()
    if added:
        (model_dir / added).write_text("{}")
    with pytest.raises(RequestError, match=message):
        load(model_dir)


@pytest.mark.parametrize(("beside", "message"), [("model_head.pkl", "SetFit"), ("modules.json", "sentence-transform")])
def test_an_encoder_of_another_library_has_no_head(checkpoint, tokenizer, tmp_path, beside, message):
    BertModel.from_pretrained(checkpoint).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / beside).touch()
    with pytest.raises(RequestError, match=f"{message}.* run_toxicity.py --model_name_or_path"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.bin", b"\xba\x16\x4f\x2f\0\0", "a model of fastText"),
        ("model.safetensors", b"x", "is a file: name the folder that it lies in"),
    ],
)
def test_a_file_is_no_folder(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message):
        load(tmp_path / name)


def test_a_model_of_transformers_that_is_damaged_is_not_taken_for_another(model_dir):
    (model_dir / "modules.json").write_text("[]")
    (model_dir / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(RequestError, match="cannot load .* ADVICE$"):
        load(model_dir)
