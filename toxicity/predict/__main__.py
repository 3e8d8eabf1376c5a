"""Score any number of comments with a trained model.

    python -m toxicity.predict --model runs/sample --input comments.csv --output scores
    python -m toxicity.predict --model runs/sample --input test.csv --output kaggle --submission
    accelerate launch -m toxicity.predict --model USER/MODEL --input hf://datasets/USER/NAME --output scores
    python -m toxicity.predict --model runs/sample --export openvino --output exported
    python -m toxicity.predict --model exported/int8 --input comments.csv --output scores

Inputs are CSV, JSON, parquet or Arrow, also compressed, or .txt with one comment a line: files, folders, patterns,
addresses that `fsspec` knows, or `-` for lines on standard input. Every input file becomes one output file with the
id, score and label of its comments in their order, and for each other label of the model NAME and NAME_label, or its
subtypes; ids keep the type that they have in the input. Files that are scored already are skipped when the same job is
run again. In a folder, all files are read except those whose names begin with `.` or `_` and descriptions such as
`dataset_infos.json`; `--output` must be outside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from toxicity.core.commands import CommandParser
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.text_files import delimiter_of, encoding_of
from toxicity.core.wanted import require_shares, wanted_threshold
from toxicity.predict.output_folder import is_local, output_folder, writing_to

# Flags that have no effect in the other of the command's two modes, scoring and exporting.
SCORING_FLAGS = (
    *("output_format", "submission", "id_column_name", "precision_target", "threshold_for", "prior"),
    *("mixed_precision", "runtime", "on_bad_rows", "explain", "engine", "ray_address", "ray_num_cpus"),
)
EXPORT_FLAGS = ("label_column_name", "label_column_names")
# Endings of names that are taken for that of a file → the format to ask for instead.
FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, by default that of the process, and run the job."""
    arguments = parse_arguments(argv)
    # Imported only now, so that mistakes in the flags are reported before torch is loaded, which takes seconds.
    from toxicity.predict.job import run

    run(arguments)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; raises `RequestError` for unknown flags and combinations that make no sense."""
    parser = CommandParser("toxicity.predict", __doc__)
    parser.add_argument("--model", required=True, help="folder of a run or an export, or a model on the Hub")
    parser.add_argument("--model_revision", default="main", help="branch, tag or commit on the Hub")
    parser.add_argument("--input", nargs="+", help="files, folders, patterns, addresses; or - for standard input")
    parser.add_argument("--output", required=True, type=output_folder, help="folder for the results, or s3:// or gs://")
    parser.add_argument("--output_format", choices=("parquet", "csv", "jsonl"), help="by default parquet")
    parser.add_argument(
        "--submission",
        nargs="?",
        const=True,
        default=False,
        metavar="FILE",
        help="write the competition's CSV: with the columns of its sample_submission.csv if named or beside the input, "
        "else with the six labels of 2018 for a model of these, or id,prediction as in 2019",
    )
    parser.add_argument("--text_column_name", help="column of the comment; else text or comment_text")
    parser.add_argument("--id_column_name", help="column of the id; else id, or rows are numbered from 0")
    parser.add_argument("--label_column_name", help="column of the toxicity that an export is measured on")
    parser.add_argument(
        "--label_column_names", nargs="+", help="columns of several labels that it is measured on, the main one first"
    )
    parser.add_argument("--delimiter", help="what separates the columns of CSV files; else it is found out")
    parser.add_argument(
        "--encoding", help="character encoding of CSV and JSON files; else by its byte order mark, or UTF-8"
    )
    parser.add_argument(
        "--toxic_label", nargs="+", help="the model's labels that mean toxic, if their names do not say"
    )
    parser.add_argument("--precision_target", help="label at the model's threshold for this precision, such as 0.9")
    parser.add_argument(
        "--threshold_for", help="label at the model's threshold for this instead, such as recall=0.95 or flagged=0.02"
    )
    parser.add_argument(
        "--prior",
        nargs="+",
        type=float,
        help="share of toxic comments among those that are scored, such as 0.02, to adjust the scores for: of the main "
        "label, or one for each",
    )
    parser.add_argument("--mixed_precision", choices=("no", "bf16", "fp16"), help="by default the device's fastest")
    parser.add_argument(
        "--runtime",
        choices=("torch", "openvino", "onnxruntime"),
        help="what computes the model; by default what an export is for, on a processor OpenVINO if it is installed, "
        "else torch",
    )
    parser.add_argument(
        "--on_bad_rows",
        choices=("refuse", "score_null"),
        default="refuse",
        help="where a row is broken or has no text: fail its file, or leave its score empty",
    )
    parser.add_argument(
        "--explain",
        type=int,
        metavar="N",
        help="add a column with the N words that push the score up most, for comments that are labelled toxic; that "
        "takes several times as long",
    )
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="what shares the files out: the processes that the launcher started, or Ray",
    )
    parser.add_argument(
        "--ray_address",
        help="of the cluster, HOST:PORT, or auto for the one of this machine; by default that of RAY_ADDRESS, or one "
        "is started here",
    )
    parser.add_argument(
        "--ray_num_cpus",
        type=int,
        help="cores of each of Ray's workers, of which each holds the model in memory; by default 4, or as many as "
        "there are for each",
    )
    parser.add_argument(
        "--export",
        choices=("onnx", "openvino"),
        help="write the model for ONNX Runtime in fp32, or for OpenVINO in fp32 and in int8",
    )
    arguments = parser.parse_args(argv)
    if not arguments.export and not arguments.input:
        raise RequestError("nothing to score: name files as --input, or - for lines on standard input.")
    if arguments.export and len(arguments.input or []) > 1:
        raise RequestError("an export is measured on one --input: a file or folder of comments with their toxicity.")
    if arguments.submission == "":
        raise RequestError("--submission '' names no file: give one, or leave the name out.")
    if arguments.submission and arguments.output_format not in (None, "csv"):
        raise RequestError("a submission is a CSV file: leave out --output_format.")
    if arguments.explain is not None and arguments.explain < 1:
        raise RequestError(f"--explain {arguments.explain}: say how many words, 1 or more.")
    if arguments.explain is not None and arguments.submission:
        raise RequestError("a submission has no column for words: leave out --explain, or --submission.")
    useless, mode = (SCORING_FLAGS, "with") if arguments.export else (EXPORT_FLAGS, "without")
    for name in useless:
        if getattr(arguments, name) != parser.get_default(name):
            raise RequestError(f"--{name} means nothing {mode} --export: leave it out.")
    _check_output(arguments)
    _check_engine(arguments)
    if arguments.precision_target is not None and arguments.threshold_for is not None:
        raise RequestError("--precision_target and --threshold_for both choose the threshold: keep one of them.")
    require_shares(arguments.prior)
    if arguments.threshold_for is not None:
        wanted_threshold(arguments.threshold_for)
    if arguments.delimiter is not None or arguments.encoding is not None:
        if "-" in (arguments.input or []):
            raise RequestError(
                "--delimiter and --encoding mean nothing for lines on standard input, which are comments in UTF-8: "
                "convert them, with iconv say."
            )
        arguments.delimiter = None if arguments.delimiter is None else delimiter_of(arguments.delimiter)
        arguments.encoding = None if arguments.encoding is None else encoding_of(arguments.encoding)
    return arguments


def _check_output(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if arguments.export and not is_local(output):
        raise RequestError(f"an export is written to a folder of this machine, and not to {output}: name one.")
    with writing_to(output):
        exists, is_folder = output.exists(), output.is_dir()
    if exists:
        if not is_folder:
            raise RequestError(f"--output {output} is a file: name a folder.")
        return
    ending = next((suffix for suffix in output.suffixes[-2:] if suffix.lower() in FORMATS), None)
    if ending is None or output.suffix not in (ending, ".gz", ".zip"):
        return
    flags = f"--output {output.with_name(output.name.split(ending)[0])}"
    if arguments.submission:
        flags += " --submission" if arguments.submission is True else f" --submission {arguments.submission}"
    elif not arguments.export:
        flags += f" --output_format {FORMATS[ending.lower()]}"
    raise RequestError(
        f"--output {output} looks like a file; it is a folder, in which every input gets a file of its own: {flags}"
    )


def _check_engine(arguments: argparse.Namespace) -> None:
    if arguments.engine != "ray":
        for name in ("ray_address", "ray_num_cpus"):
            if getattr(arguments, name) is not None:
                raise RequestError(f"--{name} means nothing without --engine ray: add that, or leave it out.")
        return
    if "-" in (arguments.input or []):
        raise RequestError(
            "--input - is read by one process alone: leave --engine ray out, or write the lines to a file."
        )
    if arguments.ray_num_cpus is not None and arguments.ray_num_cpus < 1:
        raise RequestError(f"--ray_num_cpus {arguments.ray_num_cpus}: say how many cores, 1 or more.")


def command() -> None:
    """Entry point of the console script `toxicity-predict`."""
    with refusals_exit_cleanly():
        main()


if __name__ == "__main__":
    command()
