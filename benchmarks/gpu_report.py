"""The record of `benchmarks.gpu` for people and for programs: tables, and the numbers of the JSON line."""

from __future__ import annotations

from typing import Any

from benchmarks.speed import print_table, ratios
from toxicity.core.markdown import markdown_table
from toxicity.hardware.precision import precision_name

RATIOS = (
    *("training_mfu", "scoring_mfu", "training_vs_hf_padded", "training_vs_hf_best", "scoring_vs_hf_best"),
    "auc_difference",
)


def contract(record: dict[str, Any]) -> dict[str, float | None]:
    """The numbers of the JSON line; None where a step is missing."""
    table = record.get("contenders", {})
    found = ratios(table)
    part = (record.get("profile") or {}).get("training_part") or {}
    return {name: found[name] for name in RATIOS} | {
        "kernel_launches_per_part": part.get("kernels"),
        # Share of the pairs of positions that attention computes.
        "attention_padding": table.get("ours", {}).get("padding_attention"),
    }


def is_correct(record: dict[str, Any]) -> bool | None:
    """Whether all checks were passed; None if none failed and some were left out."""
    steps, checks = record["steps"], record.get("correctness", {})
    if any("failed" in steps.get(name, {}) or (found and not found["ok"]) for name, found in checks.items()):
        return False
    return True if checks and all(checks.values()) else None


def print_report(record: dict[str, Any]) -> None:
    """Print the tables."""
    machine, task = record["machine"], record["task"]
    precision = precision_name(record["precision"])
    if "note" in record:
        print(f"{record['note']}\n")
    print(
        f"{machine['device_name']} (torch {machine['torch']}), {task['model_shape']}, {precision}, {task['rows']:,} "
        f"rows to train on and as many to score, {task['batch_size']} a step, "
        f"{task['tokens']['train'] / task['rows']:.1f} tokens each on average; medians of {record.get('rounds', 0)} "
        "rounds.\n"
    )
    checks = [row for name in record["correctness"] for row in check_rows(record, name)]
    print(markdown_table(("check", "passed", ""), checks) + "\n")
    if table := record.get("contenders"):
        print_table(table)
    if profile := record.get("profile"):
        lines = [cost_row(name, profile[key]) for name, key in PROFILED.items()]
        print("\n" + markdown_table(("", "ms", "kernels", "copies", "device busy"), lines))
    for kind, table in record.get("extras", {}).items():
        print(f"\n{kind}, one round:\n")
        print_table(table)
    if left_out := [f"{name}: {reasons(note)}" for name, note in record["steps"].items() if reasons(note)]:
        print("\nNot measured: " + "; ".join(left_out) + ".")


PROFILED = {
    "a part, forward and backward": "training_part",
    "a step, with the optimiser": "step",
    "scoring, all batches": "scoring",
}


def check_rows(record: dict[str, Any], name: str) -> list[tuple[str, str, str]]:
    """Name, verdict and the most telling numbers of a check, of the packed road for each precision."""
    found = record["correctness"][name]
    if not found:
        return [(name, "NO" if "failed" in record["steps"][name] else "not run", reasons(record["steps"][name]))]
    if name != "packed_road":
        return [(name, "yes" if found["ok"] else "NO", NUMBERS[name](found))]
    rows = []
    for precision, roads in found["precisions"].items():
        measured = {road: errors for road, errors in roads.items() if isinstance(errors, dict) and "logits" in errors}
        passed = all(errors.get("ok", True) for errors in measured.values())
        numbers = (
            f"{road} " + " / ".join(show(errors[key]) for key in ("logits", "gradients") if key in errors)
            for road, errors in measured.items()
        )
        text = f"logits / gradients are off by: {', '.join(numbers)}"
        rows.append((f"{name}, {precision_name(precision)}", "yes" if passed else "NO", text))
    return rows


NUMBERS = {
    "loss_curves": lambda found: f"{show(found['largest_difference'])} at most in {found['steps']} steps",
    "overflow": lambda found: (
        f"{found['skipped_steps']} of {found['steps']} steps skipped; scores refused: {found['scores_refused']}"
    ),
    "resume": lambda found: (
        "bit by bit"
        if found["bit_by_bit"]
        else f"weights differ by {show(found['largest_difference'])}, two whole runs by "
        f"{show(found['largest_difference_of_two_whole_runs'])}"
    ),
}


def cost_row(name: str, costs: dict[str, Any]) -> tuple[str, ...]:
    """Cells of a profile; empty where there is no GPU."""
    numbers = (costs["kernels"], ",.0f"), (costs["copies"], ",.0f"), (costs["device_busy"], ".0%")
    cells = ("" if number is None else format(number, form) for number, form in numbers)
    return name, f"{1000 * costs['seconds']:,.2f}", *cells


def reasons(note: dict[str, Any]) -> str:
    """Why a step has no result; empty if it has one."""
    return note.get("failed") or note.get("left_out") or ""


def show(number: float | None) -> str:
    """A small number, short."""
    return "not finite" if number is None else f"{number:.1e}"
