"""One small table of comments in every layout of file that people have: name of the file → its bytes."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

TEXTS = ["so kind", 'you "liar", you', "two\nlines", "grüße"]
TARGETS = [0, 1, 0, 1]
FRAME = pd.DataFrame({"id": [10, 11, 12, 13], "text": TEXTS, "target": TARGETS})
CSV = FRAME.to_csv(index=False).encode()
RECORDS = FRAME.to_dict("records")
TRAILING = CSV.replace(b"0\n", b"0,\n").replace(b"1\n", b"1,\n")
JSON_LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


def separated(delimiter, header=True, **options):
    return FRAME.to_csv(index=False, sep=delimiter, header=header, **options).encode()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


def arrow_bytes(write, table):
    sink = pa.BufferOutputStream()
    write(sink, table)
    return sink.getvalue().to_pybytes()


def write_stream(sink, table):
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def write_file(sink, table):
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def write_parquet(sink, table):
    pa.parquet.write_table(table, sink)


def write_feather(sink, table):
    pa.feather.write_feather(table, sink)


def with_classes(table, names):
    """The table as `datasets` writes it, with a ClassLabel in place of numbers."""
    features = {"target": {"names": names, "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


PLAIN = pa.table({"id": FRAME["id"].to_numpy(), "text": TEXTS, "target": TARGETS})
VIEWS = pa.table(
    {
        "id": pa.array(FRAME["id"].to_numpy()),
        "text": pa.array(TEXTS, pa.string_view()),
        "target": pa.array(TARGETS).dictionary_encode(),
    }
)
BINARY_VIEWS = PLAIN.set_column(1, "text", pa.array([text.encode() for text in TEXTS], pa.binary_view()))
LARGE = PLAIN.set_column(1, "text", pa.array([text.encode() for text in TEXTS], pa.large_binary()))
LISTS = PLAIN.set_column(2, "target", pa.array([[target] for target in TARGETS]))
BARE = [[str(row["id"]), row["text"].replace('"', "").replace("\n", " "), str(row["target"])] for row in RECORDS]

# R's write.table, and the same with another separator: the header has no name for the names of the rows.
R_ROWS = [
    f'"{number}" {row["id"]} "{row["text"].replace(chr(34), chr(34) * 2)}" {row["target"]}'
    for number, row in enumerate(RECORDS, 1)
]
R_TABLE = ("\n".join(['"id" "text" "target"', *R_ROWS]) + "\n").encode()

# Layouts whose values are the same as in `FRAME`.
LAYOUTS = {
    # separators
    "c.csv": CSV,
    "C.CSV": CSV,
    "tabs.tsv": separated("\t"),
    "tabs.tab": separated("\t"),
    "tabs.txt": separated("\t"),
    "tabs.csv": separated("\t"),
    "commas.txt": CSV,
    "commas.tsv": CSV,
    "semicolons.csv": separated(";"),
    "bars.csv": separated("|"),
    "excel.csv": b"sep=;\r\n" + separated(";"),
    "excel quoted.csv": b'"sep=|"\n' + separated("|"),
    "excel tabs.csv": b"SEP=\t\r\n" + separated("\t"),
    "excel utf-8.csv": b"\xef\xbb\xbfsep=;\r\n" + separated(";"),
    # lines and quotes
    "crlf.csv": CSV.replace(b"two\nlines", b"two lines").replace(b"\n", b"\r\n").replace(b"two lines", b"two\nlines"),
    "cr.csv": CSV.replace(b"two\nlines", b"two lines").replace(b"\n", b"\r").replace(b"two lines", b"two\nlines"),
    "no last line end.csv": CSV.rstrip(),
    "blank lines.csv": b"\n\n" + CSV.replace(b"\n11", b"\n\r\n\n11"),
    "all quoted.csv": separated(",", quoting=1),
    "trailing delimiters.csv": TRAILING,
    "trailing delimiters, header too.csv": TRAILING.replace(b"et\n", b"et,\n"),
    # names of rows
    "pandas index.csv": FRAME.to_csv().encode(),
    "index named nothing.csv": FRAME.to_csv(index_label=False, quoting=2).encode(),
    "r.txt": R_TABLE,
    "r.csv": R_TABLE,
    "r from 0.csv": FRAME.to_csv(index_label=False, quoting=1).encode(),
    # encodings
    "mark.csv": b"\xef\xbb\xbf" + CSV,
    "utf-16.csv": CSV.decode().encode("utf-16"),
    "utf-16-be.tsv": b"\xfe\xff" + separated("\t").decode().encode("utf-16-be"),
    "utf-32.csv": CSV.decode().encode("utf-32"),
    "utf-32-be.csv": b"\0\0\xfe\xff" + CSV.decode().encode("utf-32-be"),
    "utf-16.jsonl": JSON_LINES.decode().encode("utf-16"),
    # packings, by any name
    "c.csv.gz": gzip.compress(CSV),
    "c.csv.bz2": bz2.compress(CSV),
    "c.tsv.xz": lzma.compress(separated("\t")),
    "c.csv.zst": zstd(CSV),
    "two members.csv.gz": gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]),
    "two streams.csv.bz2": bz2.compress(CSV[:20]) + bz2.compress(CSV[20:]),
    "two frames.csv.zst": zstd(CSV[:20]) + zstd(CSV[20:]),
    "gzip.csv": gzip.compress(CSV),
    "zip.csv": zipped(**{"train.csv": CSV}),
    "zst.csv": zstd(CSV),
    "plain.csv.gz": CSV,
    "plain.csv.zip": CSV,
    "c.zip": zipped(**{"train.csv": CSV}),
    "c.csv.zip": zipped(**{"data/train.csv": CSV, "data/": b"", "__MACOSX/data/._train.csv": b"x", ".DS_Store": b"x"}),
    "with notes.zip": zipped(**{"a/readme.txt": b"notes", "a/b/c.tsv": separated("\t"), "a/dataset_infos.json": b"{}"}),
    "no ending inside.zip": zipped(train=CSV),
    "c.json.gz": gzip.compress(json.dumps(RECORDS).encode()),
    "c.jsonl.zip": zipped(**{"c.jsonl": JSON_LINES}),
    "json.zip": zipped(**{"c.json": FRAME.to_json(orient="records").encode()}),
    "utf-16.csv.gz": gzip.compress(CSV.decode().encode("utf-16")),
    # JSON
    "c.jsonl": JSON_LINES,
    "c.ndjson": JSON_LINES,
    "lines.json": JSON_LINES,
    "blank lines.jsonl": b"\n" + JSON_LINES.replace(b"\n", b"\n\n"),
    "crlf.jsonl": JSON_LINES.replace(b"\n", b"\r\n"),
    "mark.jsonl": b"\xef\xbb\xbf" + JSON_LINES,
    "jsonl.csv": JSON_LINES,
    "array.json": json.dumps(RECORDS).encode(),
    "array.jsonl": json.dumps(RECORDS).encode(),
    "pretty array.json": json.dumps(RECORDS, indent=2, ensure_ascii=False).encode(),
    "array of lines.json": b"[" + JSON_LINES.strip().replace(b"\n", b",\n") + b"]\n",
    "pandas.json": FRAME.to_json().encode(),
    "pandas pretty.json": FRAME.to_json(indent=2).encode(),
    "pandas sampled.json": FRAME.set_index(pd.Index([7, 3, 9, 1])).to_json().encode(),
    "pandas records.json": FRAME.to_json(orient="records").encode(),
    "pandas lines.json": FRAME.to_json(orient="records", lines=True).encode(),
    "pandas split.json": FRAME.to_json(orient="split").encode(),
    "pandas index.json": FRAME.to_json(orient="index").encode(),
    "pandas table.json": FRAME.to_json(orient="table", index=False).encode(),
    "lists.json": json.dumps(FRAME.to_dict("list")).encode(),
    "data.json": json.dumps({"version": "1.0", "data": RECORDS}).encode(),
    "pretty data.json": json.dumps({"version": [1, 0], "rows": RECORDS}, indent=1).encode(),
    "lists of one.jsonl": "".join(json.dumps({**r, "target": [r["target"]]}) + "\n" for r in RECORDS).encode(),
    # what Arrow writes
    "c.parquet": arrow_bytes(write_parquet, PLAIN),
    "c.pq": arrow_bytes(write_parquet, VIEWS),
    "c.parq": arrow_bytes(write_parquet, LARGE),
    "parquet.csv": arrow_bytes(write_parquet, PLAIN),
    "views.arrow": arrow_bytes(write_file, VIEWS),
    "binary views.arrow": arrow_bytes(write_file, BINARY_VIEWS),
    "binary views.parquet": arrow_bytes(write_parquet, BINARY_VIEWS),
    "file.arrow": arrow_bytes(write_file, PLAIN),
    "stream.arrow": arrow_bytes(write_stream, LARGE),
    "stream of views.arrow": arrow_bytes(write_stream, VIEWS),
    "c.feather": arrow_bytes(write_feather, PLAIN),
    "lists of one.parquet": arrow_bytes(write_parquet, LISTS),
}  # fmt: skip
