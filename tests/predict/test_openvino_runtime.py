"""OpenVINO models that others exported, made on the spot: inputs, outputs and folders of other shapes than ours."""

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import BertConfig

from toxicity.core.errors import RequestError
from toxicity.predict.exported import exported_file
from toxicity.predict.openvino_runtime import OpenVinoModel
from toxicity.predict.scorer import Scorer

ov = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
ops = ov.opset13
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
TABLE = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


def model_of(kind=np.int64, inputs=NAMES, output="logits", pooled=True):
    """A model whose logits are the sum of its tokens' rows of `TABLE`, or 1000 for a token of another type."""
    given = {name: ops.parameter([-1, -1], kind, name=name) for name in inputs}
    summed = ops.gather(TABLE, given["input_ids"], 0)
    if "attention_mask" in given:
        column = ops.unsqueeze(ops.convert(given["attention_mask"], np.float32), 2)
        summed = ops.multiply(summed, column)
    if "token_type_ids" in given:
        column = ops.unsqueeze(ops.convert(given["token_type_ids"], np.float32), 2)
        summed = ops.add(summed, ops.multiply(column, np.float32(1000)))
    result = ops.result(ops.reduce_sum(summed, 1) if pooled else summed)
    result.get_output_tensor(0).set_names({output})
    for name, parameter in given.items():
        parameter.get_output_tensor(0).set_names({name})
    return ov.Model([result], list(given.values()), "others")


def write(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(model_of(**options), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("kind", [np.int64, np.int32])
@pytest.mark.parametrize("inputs", [NAMES, NAMES[:2]])
@pytest.mark.parametrize("output", ["logits", "output_0"])
def test_what_an_export_asks_for_is_fed(kind, inputs, output):
    model = OpenVinoModel(model_of(kind, inputs, output), labels=2, mixed_precision="no")
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = np.stack([TABLE[[5, 6, 7]].sum(axis=0), TABLE[[8, 9]].sum(axis=0)])
    assert model(ids, mask).numpy() == pytest.approx(expected, abs=1e-5)
    assert model(ids[:1]).numpy() == pytest.approx(expected[:1], abs=1e-5)


def test_streams_compute_as_many_calls_at_a_time(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = OpenVinoModel(model_of(), labels=2, mixed_precision="no", streams=2)
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=30)
    infer = ov.InferRequest.infer

    def counted(request, *args, **options):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        result = infer(request, *args, **options)
        both.wait()
        with lock:
            running -= 1
        return result

    monkeypatch.setattr(ov.InferRequest, "infer", counted)
    tokens = [torch.tensor([[number, 5, 6]]) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model, tokens))
    assert most == 2
    for ids, logits in zip(tokens, found, strict=True):
        assert logits[0].numpy() == pytest.approx(TABLE[ids[0]].sum(axis=0), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["input_ids"]}, "has the inputs input_ids; a classifier of comments has input_ids and attention_m"),
        ({"inputs": [*NAMES, "position_ids"]}, "has the inputs .*, position_ids"),
        ({"output": "last_hidden_state", "pooled": False}, "gives `last_hidden_state` of the shape .* head that"),
    ],
)
def test_what_is_no_classifier_of_comments_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        OpenVinoModel(model_of(**options), labels=2, mixed_precision="no")


def test_as_many_logits_as_labels():
    with pytest.raises(RequestError, match="gives `logits` of the shape .*, and not 3 logits"):
        OpenVinoModel(model_of(), labels=3, mixed_precision="no")


@pytest.fixture
def export(tmp_path, tokenizer):
    """A folder as `optimum` writes it, with labels that nobody named."""
    BertConfig(vocab_size=300, num_labels=2, max_position_embeddings=64).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    write(tmp_path / "openvino_model.xml")
    return tmp_path


def test_an_export_is_computed_in_openvino(export, tokenizer):
    scorer = Scorer(str(export), mixed_precision="no", toxic_label="1")
    assert (scorer.runtime, scorer.device.type) == ("openvino", "cpu")
    logits = TABLE[tokenizer("thank you")["input_ids"]].sum(axis=0)
    assert scorer(["thank you"])[0] == pytest.approx(1 / (1 + np.exp(logits[0] - logits[1])), abs=1e-5)
    before = scorer.weights_digest
    weights = export / "openvino_model.bin"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert Scorer(str(export), toxic_label="1").weights_digest != before


def test_in_the_subfolder_it_is_found_and_weights_for_torch_come_before_it(export, model_dir):
    for folder in (export, model_dir):
        (folder / "openvino").mkdir()
        for name in ("openvino_model.xml", "openvino_model.bin"):
            shutil.copy(export / name, folder / "openvino")
    for name in ("openvino_model.xml", "openvino_model.bin"):
        (export / name).unlink()
    assert exported_file(str(export)) == export / "openvino" / "openvino_model.xml"
    assert exported_file(str(model_dir)) is None


DAMAGES = {
    "no weights": lambda folder: (folder / "openvino_model.bin").unlink(),
    "cut weights": lambda folder: (folder / "openvino_model.bin").write_bytes(b"x" * 100),
    "cut graph": lambda folder: (folder / "openvino_model.xml").write_bytes(b"<?xml version='1.0'?><net name"),
    "a later version": lambda folder: edit(folder / "openvino_model.xml", 'version="opset8"', 'version="opset99"'),
}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_export_that_openvino_cannot_read(export, damage, score, capfd, tmp_path):
    DAMAGES[damage](export)
    (tmp_path / "in.csv").write_text("text\nx\n")
    assert score("--input", tmp_path / "in.csv", "--toxic_label", "1", model=export, output=tmp_path / "out") == 2
    errors = capfd.readouterr().err
    assert "is damaged, without its .bin, or of another version: export the model again." in errors
    assert "Traceback" not in errors


def test_threads_are_served_one_after_the_other(export):
    scorer = Scorer(str(export), toxic_label="1")
    requests = [["thank you"] * rows for rows in range(1, 33)]
    expected = [scorer(texts).tolist() for texts in requests]
    with ThreadPoolExecutor(8) as pool:
        assert [found.tolist() for found in pool.map(scorer, requests)] == expected


@pytest.mark.parametrize(("cores", "pinned"), [(4, False), (2, True)])
def test_threads_are_pinned_only_where_no_other_process_uses_a_core(monkeypatch, cores, pinned):
    """Two processes with a thread each would both take the first core."""
    options = {}
    compile_model = ov.Core.compile_model
    monkeypatch.setattr(
        ov.Core, "compile_model", lambda self, *given: (options.update(given[2]), compile_model(self, *given))[1]
    )
    monkeypatch.setattr("toxicity.predict.openvino_runtime.usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    OpenVinoModel(model_of(), 2, "no")
    assert options.get("ENABLE_CPU_PINNING", True) is pinned


def test_openvino_reports_its_use_to_nobody():
    code = (
        "import sys; from toxicity.predict.openvino_runtime import import_openvino; import_openvino(); "
        "print([name for name, module in sys.modules.items() if module and 'openvino_telemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def fail(*_, **__):
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize(
    ("name", "instead", "reason"),
    [
        ("Core.get_property", lambda *_: ["FP32", "INT8"], "has no instructions for it"),
        ("Core.compile_model", fail, "could not create a primitive"),
        ("InferRequest.infer", fail, "could not create a primitive"),
    ],
)
def test_bf16_that_a_processor_cannot_compute_is_refused(monkeypatch, name, instead, reason):
    monkeypatch.setattr(f"openvino.{name}", instead)
    message = f"cannot compute the converted model in bf16 on this processor: choose mixed_precision no.*{reason}"
    with pytest.raises(RequestError, match=message):
        OpenVinoModel(model_of(), labels=2, mixed_precision="bf16")
    if instead is not fail:
        assert OpenVinoModel(model_of(), labels=2, mixed_precision="no") is not None


def test_without_bf16_instructions_the_default_is_fp32(export, monkeypatch):
    monkeypatch.setattr("toxicity.hardware.precision.has_bf16_instructions", lambda: False)
    scorer = Scorer(str(export), toxic_label="1")
    assert scorer.mixed_precision == "no"
    assert np.isfinite(scorer(["thank you"])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "onnxruntime"}, "ONNX Runtime computes exports, and .* is none: .* --export onnx --output FOLDER"),
        ({"runtime": "tensorrt"}, "there is no runtime tensorrt: choose torch, openvino, onnxruntime"),
        ({"runtime": "openvino", "device": "meta"}, "OpenVINO computes on the CPU only"),
        ({"runtime": "openvino", "mixed_precision": "fp16"}, "fp32 or bf16 on the CPU: choose mixed_precision no or"),
    ],
)
def test_runtimes_that_cannot_compute_it(model_dir, options, message):
    with pytest.raises(RequestError, match=message):
        Scorer(str(model_dir), **options)


def test_fp16_on_a_processor_stays_with_torch(openvino, model_dir):
    assert Scorer(str(model_dir), device="cpu", mixed_precision="fp16").runtime == "torch"
