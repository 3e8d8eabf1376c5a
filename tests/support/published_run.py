"""A finished run to publish, with things beside it that nobody is to see."""

import copy
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from builders import make_comments
from example_run import benchmark
from hub_server import OWNER, WRITE_TOKEN
from transformers import BertForSequenceClassification

from toxicity.hub.model_card import write_card

REPO = f"{OWNER}/toxic-comments"
LOCAL_FOLDER = "/home/jane.doe/projects/secret plans/base"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
BENCHMARK = benchmark(0.9, model=LOCAL_FOLDER, dataset="comments.csv", validation_rows=40, max_seq_length=32)
PUBLISHED = {
    *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("report/benchmark.json", "report/roc.png", "report/timing.png"),
}


def make_published_run(run, tiny_config, tokenizer):
    """Write to the folder what a run leaves, and what must stay on this machine."""
    (run / "report").mkdir(parents=True)
    torch.manual_seed(0)
    model = BertForSequenceClassification(copy.deepcopy(tiny_config)).eval()
    model.config.id2label, model.config.label2id = {0: "toxic"}, {"toxic": 0}
    model.config.vocab_source = f"{LOCAL_FOLDER.replace(' ', '_')}/vocab.txt"
    model.save_pretrained(run)
    tokenizer.save_pretrained(run)
    texts = [text for text, _ in make_comments(40, seed=5)]
    with torch.no_grad():
        inputs = tokenizer(texts, truncation=True, max_length=32, padding=True, return_tensors="pt")
        logits = model(**inputs).logits.squeeze(1).double().numpy()
    scores = 1 / (1 + np.exp(-logits))
    pyarrow.parquet.write_table(pa.table({"id": range(40), "score": scores}), run / "report" / "predictions.parquet")
    (run / "report" / "benchmark.json").write_text(json.dumps(BENCHMARK))
    (run / "report" / "report.md").write_text("\n".join(texts))
    (run / "report" / "report.html").write_text("\n".join(texts))
    (run / "report" / "roc.png").write_bytes(PNG + b"roc")
    (run / "report" / "timing.png").write_bytes(PNG + b"timing")
    (run / "training_args.bin").write_bytes(b"\0" + WRITE_TOKEN.encode() + LOCAL_FOLDER.encode())
    (run / "optimizer.pt").write_bytes(b"\0moments")
    checkpoint = run / "checkpoint-10"
    checkpoint.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).write_bytes((run / name).read_bytes())
    (checkpoint / "optimizer.pt").write_bytes(b"\0moments")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": LOCAL_FOLDER}))
    write_card(run, BENCHMARK)
    return run
