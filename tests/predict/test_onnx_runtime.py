"""ONNX models that others exported, made on the spot: inputs, outputs and folders of other shapes than ours."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import BertConfig

from toxicity.core.errors import RequestError
from toxicity.predict.exported import exported_file
from toxicity.predict.onnx_runtime import OnnxModel
from toxicity.predict.scorer import Scorer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

INT64, INT32, FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.FLOAT
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
TABLE = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


def write_model(path, kind=INT64, inputs=NAMES, outputs=("scores", "logits"), pooled=True):
    """A model whose logits are the sum of its tokens' rows of `TABLE`, or 1000 for a token of another type."""
    node = onnx.helper.make_node
    nodes = [node("Gather", ["table", "input_ids"], ["rows"])]
    nodes += [node("Cast", [name], [f"{name}_float"], to=FLOAT) for name in inputs[1:]]
    nodes += [node("Unsqueeze", [f"{name}_float", "last"], [f"{name}_column"]) for name in inputs[1:]]
    nodes += [node("Mul", ["rows", "attention_mask_column"], ["kept"])] if "attention_mask" in inputs else []
    summed = "kept" if "attention_mask" in inputs else "rows"
    if "token_type_ids" in inputs:
        nodes += [node("Mul", ["token_type_ids_column", "thousand"], ["type"]), node("Add", [summed, "type"], ["sum"])]
        summed = "sum"
    nodes += [node("ReduceSum", [summed, "first"], ["pooled"], keepdims=0)]
    nodes += [node("Identity", ["pooled" if pooled else summed], [outputs[-1]])]
    nodes += [node("Neg", ["pooled"], [name]) for name in outputs[:-1]]
    value, array = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    shape = ["rows", 2] if pooled else ["rows", "tokens", 2]
    graph = onnx.helper.make_graph(
        nodes,
        "others",
        [value(name, kind, ["rows", "tokens"]) for name in inputs],
        [value(name, FLOAT, shape) for name in outputs],
        [
            array(TABLE, "table"),
            array(np.array([1]), "first"),
            array(np.array([2]), "last"),
            array(np.float32([1000]), "thousand"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", [INT64, INT32])
@pytest.mark.parametrize("inputs", [NAMES, NAMES[:2]])
@pytest.mark.parametrize("outputs", [("scores", "logits"), ("output_0",)])
def test_what_an_export_asks_for_is_fed(tmp_path, kind, inputs, outputs):
    model = OnnxModel(write_model(tmp_path / "model.onnx", kind, inputs, outputs), labels=2)
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = np.stack([TABLE[[5, 6, 7]].sum(axis=0), TABLE[[8, 9]].sum(axis=0)])
    assert model(ids, mask).numpy() == pytest.approx(expected, abs=1e-5)
    assert model(ids[:1]).numpy() == pytest.approx(expected[:1], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["input_ids"]}, "has the inputs input_ids; a classifier of comments has input_ids and attention_m"),
        ({"inputs": [*NAMES, "position_ids"]}, "has the inputs .*, position_ids"),
        ({"outputs": ("last_hidden_state",), "pooled": False}, "gives `last_hidden_state` of the shape .* head that"),
    ],
)
def test_what_is_no_classifier_of_comments_is_refused(tmp_path, options, message):
    with pytest.raises(RequestError, match=message):
        OnnxModel(write_model(tmp_path / "model.onnx", **options), labels=2)


def test_as_many_logits_as_labels(tmp_path):
    with pytest.raises(RequestError, match="gives `logits` of the shape .*, and not 3 logits"):
        OnnxModel(write_model(tmp_path / "model.onnx"), labels=3)


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx"])
def test_a_folder_as_optimum_writes_it_is_scored(tmp_path, tokenizer, name):
    # Its tokenizer makes token_type_ids, and its labels are those of a classifier that nobody named.
    BertConfig(vocab_size=300, num_labels=2, max_position_embeddings=64).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path = write_model(tmp_path / name)
    scorer = Scorer(str(tmp_path), toxic_label="1")
    assert scorer.runtime == "onnxruntime"
    logits = TABLE[tokenizer("thank you")["input_ids"]].sum(axis=0)
    assert scorer(["thank you"])[0] == pytest.approx(1 / (1 + np.exp(logits[0] - logits[1])), abs=1e-5)
    before = scorer.weights_digest
    path.with_name("model.onnx_data").write_bytes(b"x")
    assert Scorer(str(tmp_path), toxic_label="1").weights_digest != before


def test_weights_for_torch_come_before_an_export_beside_them(model_dir):
    write_model(model_dir / "onnx" / "model.onnx")
    assert exported_file(str(model_dir)) is None
    assert Scorer(str(model_dir), device="cpu").runtime == "torch"


def test_the_folder_above_exports_says_which_to_name(tmp_path, score, capsys):
    for form in ("int8", "fp32"):
        write_model(tmp_path / "exported" / form / "model.onnx")
    (tmp_path / "exported" / "export.json").write_text(json.dumps({}))
    folder = tmp_path / "exported"
    (tmp_path / "in.csv").write_text("text\nx\n")
    assert score("--input", tmp_path / "in.csv", model=folder) == 2
    assert f"{folder} holds exports, and is none: name {folder}/fp32 or {folder}/int8." in capsys.readouterr().err
    shutil.rmtree(folder / "fp32")
    with pytest.raises(RequestError, match=f"name {folder}/int8\\.$"):
        Scorer(str(folder))
