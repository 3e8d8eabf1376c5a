"""Draws the measured ratios of docs/benchmarks.json, docs/speed.json and docs/predict.json into docs/benchmarks.png.

make chart
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from toxicity.bench.picture import STYLE

DOCS = Path(__file__).parents[1] / "docs"

# Title of each panel → the contenders with the section and key of their ratios, in the order of the panel.
PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "Tokenising 100,000 comments": {
        "one row at a time": ("tokenization", "vs_per_row"),
        "datasets.map, padded": ("tokenization", "vs_hf_padded"),
        "bare Rust tokenizer": ("tokenization", "vs_rust"),
    },
    "Training MiniLM-L6": {
        "published way, fp32": ("speed", "training_vs_published"),
        "Trainer, padded to the longest": ("speed", "training_vs_hf_dynamic"),
        "Trainer, padded to the limit": ("speed", "training_vs_hf_padded"),
        "Trainer, group_by_length": ("speed", "training_vs_hf_best"),
    },
    "Scoring with MiniLM-L6": {
        "pipeline, fp32": ("speed", "scoring_vs_pipeline"),
        "Trainer, padded to the limit": ("speed", "scoring_vs_hf_padded"),
        "Trainer, padded to the longest": ("speed", "scoring_vs_hf_dynamic"),
        "Trainer, group_by_length": ("speed", "scoring_vs_hf_best"),
    },
    "Scoring on a processor": {
        "pipeline, files": ("predict", "vs_pipeline"),
        "CrossEncoder, files": ("predict", "vs_cross_encoder"),
        "CTranslate2, int8": ("predict", "vs_ctranslate2_int8"),
        "ONNX Runtime, int8": ("predict", "vs_onnxruntime_int8"),
        "OpenVINO alone, int8": ("predict", "vs_openvino_int8"),
        "OpenVINO alone, bf16": ("predict", "vs_openvino_bf16"),
        "own loop, without files": ("predict", "vs_scoring_loop"),
    },
}


@rc_context(fname=STYLE)
def draw(numbers: dict[str, dict[str, float]], path: Path) -> None:
    """Draw a bar for each ratio.

    Args:
        numbers: ratios by section and key; above 1, this package is faster.
        path: PNG file to write.
    """
    figure = Figure(figsize=(8.5, 7.0))
    heights = [len(contenders) for contenders in PANELS.values()]
    figure.suptitle("How many times as fast as others this package is, on two CPU cores")
    all_axes = figure.subplots(len(PANELS), 1, sharex=True, height_ratios=heights)
    for axes, (title, contenders) in zip(all_axes, PANELS.items(), strict=True):
        found = {label: numbers[section][key] for label, (section, key) in contenders.items()}
        # None where a contender was left out.
        contenders = {label: ratio for label, ratio in found.items() if ratio is not None}
        ratios = list(contenders.values())
        # On a logarithmic axis a bar starts at 1, where both are equally fast.
        axes.barh(list(contenders), [ratio - 1 for ratio in ratios], left=1, height=0.7)
        for place, ratio in enumerate(ratios):
            axes.text(1.03 * max(ratio, 1), place, f"{ratio:.2f}×", va="center", fontsize=9)
        axes.set_title(title, loc="left", fontsize=10)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.axvline(1, color="#1D2129", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(0.8, 24)
    axes.set_xticks([1, 2, 4, 8, 16], ["equally fast", "2×", "4×", "8×", "16×"])
    axes.minorticks_off()
    figure.savefig(path)


def read_numbers() -> dict[str, dict[str, float]]:
    """The measured numbers by section; those of docs/speed.json under `speed`, of docs/predict.json under `predict`."""
    numbers, speed, predict = (
        json.loads((DOCS / f"{name}.json").read_text(encoding="utf-8")) for name in ("benchmarks", "speed", "predict")
    )
    return numbers | {"speed": speed, "predict": predict}


if __name__ == "__main__":
    draw(read_numbers(), DOCS / "benchmarks.png")
