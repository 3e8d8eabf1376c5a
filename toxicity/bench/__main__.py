"""Runs beside each other and beside the published ones, and how long a run would take.

python -m toxicity.bench compare
python -m toxicity.bench estimate --gpu p100 --rows 1000000 --epochs 1 --price_per_hour 1.46
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from toxicity.bench.conclusions import conclude, price_of
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


def compare(folder: Path, prices: Mapping[str, float]) -> None:
    """Print all runs under `folder` beside the published ones, a table and its conclusions for each protocol.

    Writes `compare.png` into `folder`. Files that cannot be used are named on standard error.

    Raises:
        RequestError: if a price is given for a machine that no run is from.
    """
    rows, warnings = read_rows(folder)
    _print_warnings(warnings)
    groups = by_protocol([*published_rows(), *rows])
    _require_priced({row["machine"]["label"].split()[0].lower() for group in groups for row in group}, prices)
    drawn = []
    for index, group in enumerate(groups):
        results, title = results_of(group), protocol_title(group)
        drawn.append((title, results))
        apart = f". Not to be compared with the first table: other {', '.join(differing_keys(groups[0], group))}"
        print(f"\n{title}{apart if index else ''}.\n")
        print(f"{benchmark_table(group)}\n")
        for sentence in conclude(results, prices):
            print(f"- {sentence}")
    print(f"\nPublished: {REFERENCE['source']}. Assumed where it says nothing: {REFERENCE['assumed']['why']}.")
    print("Standard errors of the AUC: Hanley and McNeil 1982. FLOPs: PaLM, appendix B, without padding.")
    folder.mkdir(parents=True, exist_ok=True)
    draw(drawn, folder / "compare.png")
    print(f"\nThe picture: {folder / 'compare.png'}")
    if not rows:
        print(
            f"\nNo run of yours under {folder}/ yet. Minutes on any machine: make bench GPU=cpu\n"
            "The published protocol: make estimate GPU=p100, then make bench GPU=p100 DATA=train.csv"
        )


def print_estimate(folder: Path, gpu: str, rows: int, epochs: float, prices: Mapping[str, float]) -> None:
    """Print how long `recipes/reference.yaml` would take on a kind of machine, and what at a price.

    Raises:
        RequestError: for an unknown kind, one of which nothing is known, or a price for another machine.
    """
    kind = known_kind(gpu)
    _require_priced({kind}, prices)
    runs, warnings = read_rows(folder)
    _print_warnings(warnings)
    forecast = estimate(kind, rows, epochs, runs)
    priced = price_of(kind, 1.0, prices) is not None
    lines = [("padded", forecast.padded), ("real", forecast.real)]
    table = [
        [
            {"padded": "all, padding too", "real": "real ones"}[name],
            *(h_mm_ss(seconds[phase]) for phase in PHASES),
            h_mm_ss(sum(seconds.values())),
            *([f"{price_of(kind, sum(seconds.values()), prices):.2f}"] if priced else []),
        ]
        for name, seconds in lines
        if seconds
    ]
    header = ("Tokens", "Tokenizer Time", "Training Time", "Inference Time", "Total", *(["Price"] if priced else []))
    print(f"\n{kind}: {rows:,} comments to train, {rows // 2:,} to score, epochs {epochs:g}, recipes/reference.yaml\n")
    print(f"{markdown_table(header, table)}\n")
    bounds = forecast.low, forecast.high
    cost = (
        f", at a price of {' to '.join(f'{price_of(kind, bound, prices):.2f}' for bound in bounds)}" if priced else ""
    )
    print(f"Expect {' to '.join(map(h_mm_ss, bounds))} in all{cost}. Assumed:")
    for assumption in forecast.assumptions:
        print(f"- {assumption}")


def main(argv: list[str] | None = None) -> None:
    """Run `compare` or `estimate`."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.bench", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    comparing = commands.add_parser("compare", help="all runs beside the published ones")
    estimating = commands.add_parser("estimate", help="how long a run would take")
    estimating.add_argument("--gpu", required=True, help="kind of machine")
    estimating.add_argument(
        "--rows", type=int, default=REFERENCE["protocol"]["train_rows"], help="comments to train on"
    )
    estimating.add_argument("--epochs", type=float, default=1.0)
    for command in (comparing, estimating):
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
        command.add_argument(
            "--price_per_hour",
            nargs="+",
            default=[],
            metavar="[MACHINE=]PRICE",
            help="price of an hour: of one machine, as p100=1.46, or of any",
        )
    arguments = parser.parse_args(argv)
    prices = _parse_prices(arguments.price_per_hour)
    if arguments.command == "compare":
        compare(arguments.runs, prices)
        return
    for name in ("rows", "epochs"):
        if not getattr(arguments, name) > 0:
            raise RequestError(f"--{name} is {getattr(arguments, name):g}; it must be more than 0.")
    print_estimate(arguments.runs, arguments.gpu, arguments.rows, arguments.epochs, prices)


def _parse_prices(texts: list[str]) -> dict[str, float]:
    prices = {}
    for text in texts:
        machine, _, price = text.rpartition("=")
        try:
            prices[machine.lower()] = float(price)
            if not 0 <= prices[machine.lower()] < float("inf"):
                raise ValueError
        except ValueError:
            raise RequestError(f"--price_per_hour {text}: give a number, or MACHINE=number, as p100=1.46.") from None
    return prices


def _require_priced(machines: set[str], prices: Mapping[str, float]) -> None:
    for machine in sorted(prices.keys() - machines - {""}):
        raise RequestError(f"--price_per_hour names {machine}, and there are {', '.join(sorted(machines))} here.")


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
