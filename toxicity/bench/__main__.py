"""Command line: compare the runs under a folder with the published ones, or estimate how long a run would take.

python -m toxicity.bench compare
python -m toxicity.bench estimate --gpu p100 --rows 1000000 --epochs 1 --price_per_hour 1.46
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toxicity.bench.conclusions import conclude
from toxicity.bench.estimate import estimate
from toxicity.bench.picture import draw
from toxicity.bench.results import results_of
from toxicity.bench.runs import (
    PHASES,
    REFERENCE,
    benchmark_table,
    by_protocol,
    differing_keys,
    protocol_title,
    published_rows,
    read_rows,
)
from toxicity.core.console import h_mm_ss
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.markdown import markdown_table
from toxicity.hardware.kinds import known_kind


def compare(folder: Path) -> None:
    """Print a table of all runs under `folder` and the published ones for each protocol, with conclusions.

    Writes `compare.png` into `folder`. Files that cannot be read are named on standard error.
    """
    rows = _read_rows(folder)
    groups = by_protocol([*published_rows(), *rows])
    panels = []
    for index, group in enumerate(groups):
        results, title = results_of(group), protocol_title(group)
        panels.append((title, results))
        apart = f". Not to be compared with the first table: other {', '.join(differing_keys(groups[0][0], group[0]))}"
        print(f"\n{title}{apart if index else ''}.\n")
        print(f"{markdown_table(*benchmark_table(group))}\n")
        for sentence in conclude(results):
            print(f"- {sentence}")
    print(f"\nPublished: {REFERENCE['source']}. Assumed where it says nothing: {REFERENCE['assumed']['why']}.")
    print("Standard errors of the AUC: Hanley and McNeil 1982. FLOPs: PaLM, appendix B, without padding.")
    folder.mkdir(parents=True, exist_ok=True)
    draw(panels, folder / "compare.png")
    print(f"\nThe picture: {folder / 'compare.png'}")
    if not rows:
        print(
            f"\nNo run of yours under {folder}/ yet. Minutes on any machine: make bench GPU=cpu\n"
            "The published protocol: make estimate GPU=p100, then make bench GPU=p100 DATA=train.csv"
        )


def print_estimate(folder: Path, gpu: str, rows: int, epochs: float, price_per_hour: float | None) -> None:
    """Print how long `recipes/reference.yaml` would take on a kind of machine, and what that costs.

    Raises:
        RequestError: for an unknown kind, or one whose speed nothing tells.
    """
    kind = known_kind(gpu)
    forecast = estimate(kind, rows, epochs, _read_rows(folder))
    header = ["Tokens", "Tokenizer Time", "Training Time", "Inference Time", "Total"]
    expected = f"{h_mm_ss(forecast.low)} to {h_mm_ss(forecast.high)} in all"
    if price_per_hour is not None:
        header.append("Price")
        low, high = (_price(seconds, price_per_hour) for seconds in (forecast.low, forecast.high))
        expected += f", at a price of {low} to {high}"
    table = []
    for tokens, seconds in (("all, padding too", forecast.padded), ("real ones", forecast.real)):
        if seconds:
            total = sum(seconds.values())
            line = [tokens, *(h_mm_ss(seconds[phase]) for phase in PHASES), h_mm_ss(total)]
            table.append(line if price_per_hour is None else [*line, _price(total, price_per_hour)])
    print(f"\n{kind}: {rows:,} comments to train, {rows // 2:,} to score, epochs {epochs:g}, recipes/reference.yaml\n")
    print(f"{markdown_table(header, table)}\n")
    print(f"Expect {expected}. Assumed:")
    for assumption in forecast.assumptions:
        print(f"- {assumption}")


def main(argv: list[str] | None = None) -> None:
    """Run `compare` or `estimate`."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.bench", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    comparing = commands.add_parser("compare", help="all runs beside the published ones")
    estimating = commands.add_parser("estimate", help="how long a run would take")
    for command in (comparing, estimating):
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    rows = REFERENCE["protocol"]["train_rows"]
    estimating.add_argument("--gpu", required=True, help="kind of machine")
    estimating.add_argument("--rows", type=int, default=rows, help="comments to train on")
    estimating.add_argument("--epochs", type=float, default=1.0)
    estimating.add_argument("--price_per_hour", metavar="PRICE", help="of the machine, in any currency")
    arguments = parser.parse_args(argv)
    if arguments.command == "compare":
        compare(arguments.runs)
        return
    for name in ("rows", "epochs"):
        if not getattr(arguments, name) > 0:
            raise RequestError(f"--{name} is {getattr(arguments, name):g}; it must be more than 0.")
    price = None if arguments.price_per_hour is None else _parse_price(arguments.price_per_hour)
    print_estimate(arguments.runs, arguments.gpu, arguments.rows, arguments.epochs, price)


def _price(seconds: float, price_per_hour: float) -> str:
    return f"{seconds / 3600 * price_per_hour:.2f}"


def _parse_price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise RequestError(f"--price_per_hour {text}: give a number, as 1.46.")
    return price


def _read_rows(folder: Path) -> list[dict]:
    rows, warnings = read_rows(folder)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return rows


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
