"""Inputs that nobody would write and somebody will send: through reader, tokenizer, collator and scorer."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import resource
import struct
import zipfile

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from builders import make_comments, training_flags, write_csv
from datasets import Dataset

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import ID, TEXT
from toxicity.data.row_checks import MAX_COMMENT_BYTES
from toxicity.data.sources import read_file
from toxicity.data.token_dataset import TokenRows
from toxicity.data.tokenization import tokenize
from toxicity.models.packing import Layout
from toxicity.predict.scorer import Scorer
from toxicity.training.batching import Collator

PIECES = [
    *("😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "e\u0301\u0323\u0308", "\u202eleft\u202c", "שלום", "مرحبا", "\u2067x\u2069"),
    *("\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "\x85", "\u2028"),
    *("\x1b[31m", "\x1b]0;title\x07", "\x07", "\x08", "\x7f", "\r", "\n", "\r\n", "\t", "\x0b", "\x0c", "\x1a", "\x01"),
    *(
        '"',
        "'",
        ",",
        ";",
        "|",
        "\\",
        "\\n",
        '""',
        "=1+1",
        "@SUM(A1)",
        "-2",
        "+3",
        "<script>",
        "{}",
        "%s",
        "%n",
        "../../x",
    ),
    *("[CLS]", "[SEP]", "[PAD]", "[MASK]", "##ing", "[unused1]", "nan", "NULL", "None", "1e999", "0", "true"),
    *("stupid", "thank you", "garden", "的", "ж", "ﷺ", "Ω", "ß", "İ", "ſ", "½", "x" * 300, "a " * 200, "\u0300" * 50),
]
COUNT = 2500


def odd_texts(count, seed=0):
    """Texts of odd pieces and of any characters there are; none is blank and none holds a NUL or half a surrogate."""
    rng = random.Random(seed)
    texts = []
    while len(texts) < count:
        pieces = rng.choices(PIECES, k=rng.randint(1, 12))
        pieces += [chr(rng.choice([rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x110000)])) for _ in range(3)]
        rng.shuffle(pieces)
        texts.append(rng.choice(["", " "]).join(pieces) + rng.choice(PIECES[-10:-4]))
    return texts


def write(path, texts):
    """The texts with ids and targets, in the format that the ending of the name says."""
    rows = [[index, text, index % 2] for index, text in enumerate(texts)]
    if path.name.endswith(".parquet"):
        ids, text, target = zip(*rows, strict=True)
        pa.parquet.write_table(pa.table({"id": ids, "text": text, "target": target}), path)
    elif path.name.endswith(".csv"):
        write_csv(path, ["id", "text", "target"], rows)
    else:
        lines = "".join(json.dumps(dict(zip(("id", "text", "target"), row, strict=True))) + "\n" for row in rows)
        path.write_text(lines) if path.suffix == ".jsonl" else path.write_bytes(gzip.compress(lines.encode()))
    return path


def read(path):
    return read_file(str(path), DataArguments(train_file=str(path)))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory, tokenizer, tiny_config):
    from transformers import BertForSequenceClassification

    folder = tmp_path_factory.mktemp("model")
    BertForSequenceClassification(tiny_config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Scorer(str(folder), device="cpu", mixed_precision="no", runtime="torch")


@pytest.mark.parametrize("name", ["odd.csv", "odd.jsonl", "odd.jsonl.gz", "odd.parquet"])
def test_every_odd_comment_comes_through_in_its_place(tmp_path, tokenizer, scorer, name):
    texts = odd_texts(COUNT)
    source = read(write(tmp_path / name, texts))
    assert source.bad_rows == {}
    assert source.table[TEXT].to_pylist() == texts
    assert source.table[ID].to_pylist() == list(range(COUNT))
    tokens = tokenize(Dataset(source.table), tokenizer, 32, cache_dir=tmp_path / "cache")
    assert len(tokens.dataset) == COUNT
    assert 2 <= tokens.lengths.min() <= tokens.lengths.max() <= 32
    rows = TokenRows(tokens.dataset.add_column("labels", np.zeros(COUNT, np.float32)))
    for packed in (True, False):
        collate = Collator(Layout(packed, tokenizer.pad_token_id, pad_to_multiple_of=8), max_tokens=1_000)
        batches = [
            collate(rows.__getitems__(list(range(COUNT))[start : start + 100])) for start in range(0, COUNT, 100)
        ]
        assert sum(len(batch["labels"]) for batch in batches) == COUNT
        assert sum(batch["tokens"] for batch in batches) == tokens.lengths.sum()
    if name == "odd.csv":
        scores = scorer(texts)
        assert scores.shape == (COUNT,)
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(scorer(texts[:50]), scores[:50], atol=1e-5)


def test_long_comments_come_through_to_the_limit_and_no_further(tmp_path, tokenizer, scorer):
    long = [
        "word " * (MAX_COMMENT_BYTES // 5),
        "x" * MAX_COMMENT_BYTES,
        "😀" * (MAX_COMMENT_BYTES // 4),
        "x\n" * 400_000,
    ]
    texts = ["thank you", *long, "stupid"]
    source = read(write(tmp_path / "long.csv", texts))
    assert source.bad_rows == {}
    assert len(tokenize(Dataset(source.table), tokenizer, 32, cache_dir=tmp_path / "cache").dataset) == len(texts)
    assert np.isfinite(scorer(texts)).all()
    too_long = read(write(tmp_path / "longer.csv", [*texts, "x" * (MAX_COMMENT_BYTES + 1)]))
    assert list(too_long.bad_rows) == [len(texts)]


def test_what_is_no_text_is_named_by_row_and_changes_no_count(tmp_path):
    bad = ["nul \0 inside", " ", "\u3000\u2028", "\ud83d", "\udc00 half"]
    lines = [json.dumps({"id": i, "text": text, "target": 0}) for i, text in enumerate(["fine", *bad, "fine too"])]
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    source = read(tmp_path / "bad.jsonl")
    assert len(source.table) == 7
    assert list(source.bad_rows) == [1, 2, 3, 4, 5]


def test_nuls_and_half_surrogates_anywhere_are_named_and_change_no_count(tmp_path):
    rng = random.Random(1)
    texts = odd_texts(500, seed=1)
    bad = sorted(rng.sample(range(len(texts)), 200))
    for row in bad:
        place = rng.randint(0, len(texts[row]))
        texts[row] = texts[row][:place] + rng.choice(["\0", chr(rng.randrange(0xD800, 0xE000))]) + texts[row][place:]
    source = read(write(tmp_path / "bad.jsonl", texts))
    assert len(source.table) == len(texts)
    assert list(source.bad_rows) == bad


def parquet_bytes(rows=300):
    ids, texts, targets = zip(*((i, *row) for i, row in enumerate(make_comments(rows))), strict=True)
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"id": ids, "text": texts, "target": targets}), file)
    return file.getvalue()


def arrow_bytes(rows=300):
    table = pa.parquet.read_table(io.BytesIO(parquet_bytes(rows)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def csv_bytes(rows=300):
    lines = [f'{i},"{text}",{label}' for i, (text, label) in enumerate(make_comments(rows))]
    return ("id,text,target\n" + "\n".join(lines) + "\n").encode()


def zip_bytes():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", csv_bytes())
    return file.getvalue()


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def deep(opening, closing, depth=200_000):
    return (opening * depth + closing * depth).encode()


DAMAGED = {
    "nothing.csv": b"",
    "newlines.csv": b"\n" * 50,
    "header.csv": b"id,text,target\n",
    "cut in a text.csv": csv_bytes()[:-20],
    "cut in a row.csv": csv_bytes()[:-2] + b'\n99,"so"',
    "cut by a byte.csv.gz": gzip.compress(csv_bytes())[:-1],
    "cut.csv.gz": gzip.compress(csv_bytes())[:500],
    "flipped.csv.gz": flipped(gzip.compress(csv_bytes()), 300),
    "cut.zip": zip_bytes()[:-30],
    "half.zip": zip_bytes()[: len(zip_bytes()) // 2],
    "flipped.zip": flipped(zip_bytes(), 200),
    "cut.parquet": parquet_bytes()[:-10],
    "half.parquet": parquet_bytes()[: len(parquet_bytes()) // 2],
    "flipped footer.parquet": flipped(parquet_bytes(), len(parquet_bytes()) - 6),
    "huge footer.parquet": parquet_bytes()[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
    "magic alone.parquet": b"PAR1PAR1",
    "no parquet.parquet": csv_bytes(),
    "cut.csv.xz": lzma.compress(csv_bytes())[:500],
    "flipped.csv.bz2": flipped(bz2.compress(csv_bytes()), 300),
    "utf-16 without mark.csv": csv_bytes().decode().encode("utf-16-le"),
    "cut utf-16.csv": csv_bytes().decode().encode("utf-16")[:-5],
    "half an array.json": b"[" + b'{"id": 1, "text": "x", "target": 0},\n' * 20,
    "deep array.json": b"[" + deep("[", "]") + b"]",
    "deep object.json": b'{\n"text": ' + deep("[", "]") + b"}",
    "cut.arrow": arrow_bytes()[:-300],
    "half.arrow": arrow_bytes()[: len(arrow_bytes()) // 2],
    "latin-1.csv": csv_bytes() + '300,"schön",0\n'.encode("latin-1"),
    "cut character.csv": csv_bytes() + b'300,"sch\xc3",0\n',
    "overlong.csv": csv_bytes() + b'300,"\xc0\xaf",0\n',
    "nul bytes.csv": csv_bytes() + b'300,"a\0b",0\n',
    "zeros.csv": bytes(5000),
    "noise.csv": random.Random(0).randbytes(20_000),
    "noise.parquet": random.Random(1).randbytes(20_000),
    "noise.zip": random.Random(2).randbytes(20_000),
    "noise.jsonl": random.Random(3).randbytes(20_000),
    "deep lists.jsonl": deep("[", "]"),
    "deep objects.jsonl": deep('{"a":', "1") + b"}" * 200_000,
    "deep text.jsonl": b'{"id": 1, "target": 0, "text": ' + deep("[", "]") + b"}",
    "many digits.jsonl": b'{"id": 1, "text": "x", "target": ' + b"9" * 100_000 + b"}",
    "infinity.jsonl": b'{"id": 1, "text": "x", "target": Infinity}\n' * 30,
    "one list.json": json.dumps([{"text": "x", "target": 0}]).encode(),
    "cut.jsonl": b'{"id": 1, "text": "x", "target": 0}\n' * 20 + b'{"id": 2, "te',
    "no text.jsonl": b'{"id": 1}\n' * 20,
    "exponent.csv": b"id,text,target\n" + b"1,x,1e99999\n" * 20,
    "wide.csv": b"id,text,target" + b",c" * 50_000 + b"\n1,x,0\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_ends_in_exit_code_2(checkpoint, tmp_path, run_main, capsys, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(SystemExit) as stop:
        run_main(*training_flags(checkpoint, tmp_path / name, output_dir=tmp_path / "run"))
    errors = capsys.readouterr().err
    assert stop.value.code == 2, errors
    assert "error: " in errors
    assert "Traceback" not in errors
    assert max(map(len, errors.splitlines())) < 1500
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "zip"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, ending):
    """A comment of 300 MB in a file of some kB."""
    path = tmp_path / f"bomb.{ending}"
    beginning = b'{"id": 1, "target": 0, "text": "' if ending == "jsonl.gz" else b"id,text,target\n1,"
    with contextlib.ExitStack() as stack:
        if ending == "zip":
            archive = stack.enter_context(zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1))
            file = stack.enter_context(archive.open("bomb.csv", "w"))
        else:
            file = stack.enter_context(gzip.open(path, "wb", compresslevel=1))
        file.write(beginning)
        for _ in range(300):
            file.write(b"x" * 10**6)
    limit = limited_memory(400 * 2**20)
    try:
        with pytest.raises(RequestError, match="longer than|no JSON lines"):
            reject_bad_rows(read(path))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


def limited_memory(more):
    """Let this process take so many bytes more and no others; returns the limit before."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more, limit[1]))
    return limit


def reject_bad_rows(source):
    raise RequestError(f"bad rows: {source.bad_rows}")
