"""The model card of a run, README.md: what the model is for, how good it is, and whom it treats how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from toxicity.bench.runs import benchmark_table
from toxicity.core.files import write_text
from toxicity.core.markdown import UNDEFINED, markdown_table
from toxicity.core.schema import IDENTITIES
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.identity_probe import describe_probe
from toxicity.hub.push import CARD
from toxicity.hub.redact import is_hub_id, public_benchmark, public_name
from toxicity.report.tables import (
    bias_table,
    calibration_table,
    final_score_name,
    metrics_table,
    number,
    thresholds_table,
)

# What the cards of these models on the Hub say, under their names with and without the owner.
LICENSES = {
    "google-bert/bert-base-uncased": "apache-2.0",
    "google-bert/bert-base-cased": "apache-2.0",
    "google-bert/bert-large-uncased": "apache-2.0",
    "distilbert/distilbert-base-uncased": "apache-2.0",
    "google/electra-base-discriminator": "apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "apache-2.0",
    "FacebookAI/roberta-base": "mit",
    "microsoft/deberta-v3-base": "mit",
}
# The Hub's own word for it.
UNKNOWN_LICENSE = "unknown"

# What is known of data that are known by name: what they are, and on what terms their text is given.
DATASETS = {
    "sample": (
        "Wikipedia talk comments (Jigsaw, 2018) and tweets (Davidson et al., 2017)",
        "Of the data, the Wikipedia comments are under CC BY-SA 3.0; the tweets are their authors'.",
    ),
    "google/civil_comments": ("Civil Comments", "The comments of the data are under CC0."),
}

EXAMPLES = ("Thank you, that was kind of you.", "Shut up, you worthless liar.")


def write_card(
    output_dir: Path,
    benchmark: Mapping[str, Any],
    repo: str | None = None,
    dataset_name: str | None = None,
    dataset_revision: str | None = None,
) -> None:
    """Write `README.md`, with the metadata that the Hub reads. It shows no comment of the data and no local path.

    Call it when the pictures are drawn: it shows those that it finds in `report/`.

    Args:
        output_dir: folder of the run.
        benchmark: what `report/benchmark.json` holds. `metrics.auc`, `metrics.bias`, `calibration` and `probe` may be
            None or missing, and any number in them None.
        repo: name on the Hub. Without one the example loads the folder, until publishing names the repo.
        dataset_name: what `--dataset_name` was; None where the data came from files.
        dataset_revision: what `--dataset_revision` was.
    """
    base_model = benchmark["protocol"]["model"] if is_hub_id(benchmark["protocol"]["model"]) else None
    benchmark = public_benchmark(benchmark)
    name = (repo or output_dir.absolute().name).rsplit("/", 1)[-1]
    metadata = _metadata(benchmark, name, base_model, dataset_name, dataset_revision)
    probe = benchmark.get("probe")
    pictures = {path.name for path in (output_dir / "report").glob("*.png")}
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {_plain(name)}",
        _summary(benchmark, dataset_name),
        "## Results",
        *_results(benchmark, pictures),
        "## How to use",
        *_usage(benchmark, repo or (name if output_dir.is_absolute() else output_dir.as_posix())),
        "## Intended use",
        INTENDED_USE,
        "## Known biases",
        *_bias(benchmark["metrics"], pictures),
        *([describe_probe(probe), *_images(pictures, "probe.png")] if probe else []),
        "## Limits",
        _limits(benchmark),
        "## Training",
        *_training(benchmark, pictures),
        "## Licence",
        _license_text(benchmark, base_model, dataset_name),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_text(output_dir / CARD, text)


INTENDED_USE = """\
- Putting comments in the order in which moderators should look at them, and measuring how toxic a body of text is.
- Research on such models: their errors, their bias, their cost.

Not for deciding about people. A score is a guess at how many annotators would call a comment toxic, made without its
thread, its author and its place. Removing comments or punishing their authors by it alone silences people who did
nothing wrong, most often those whose groups are named in insults."""


def _metadata(
    benchmark: Mapping[str, Any],
    name: str,
    base_model: str | None,
    dataset_name: str | None,
    dataset_revision: str | None,
) -> ModelCardData:
    protocol, metrics = benchmark["protocol"], benchmark["metrics"]
    on_hub = _dataset_on_hub(dataset_name)
    data = {
        "task_type": "text-classification",
        "task_name": "Toxicity",
        # The Hub asks for a type; what is not of the Hub has none.
        "dataset_type": on_hub or "custom",
        "dataset_name": _dataset_title(protocol, dataset_name),
        "dataset_split": "validation",
        "dataset_revision": dataset_revision if on_hub else None,
    }
    values = {
        ("roc_auc", "ROC AUC"): metrics.get("auc"),
    }
    bias = metrics.get("bias")
    if bias and bias["identities_counted"] == len(IDENTITIES):
        # Over fewer identities it does not compare with published ones.
        values["final_score", final_score_name(bias)] = bias["final_score"]
    results = [
        EvalResult(**data, metric_type=kind, metric_name=title, metric_value=value)
        for (kind, title), value in values.items()
        if value is not None
    ]
    return ModelCardData(
        language="en",
        license=_license(base_model),
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["toxicity", "content-moderation", "bias"],
        base_model=base_model,
        datasets=[on_hub] if on_hub else None,
        metrics=["roc_auc"],
        model_name=name if results else None,
        eval_results=results or None,
    )


def _summary(benchmark: Mapping[str, Any], dataset_name: str | None) -> str:
    protocol = benchmark["protocol"]
    return (
        f"Tells how toxic an English comment is: one label, `toxic`, with a probability. {_code(protocol['model'])} "
        f"fine-tuned on {protocol['train_rows']:,} comments of {_code(_dataset_title(protocol, dataset_name))}."
    )


def _results(benchmark: Mapping[str, Any], pictures: set[str]) -> list[str]:
    protocol, metrics = benchmark["protocol"], benchmark["metrics"]
    positives = protocol.get("validation_positives")
    toxic = "" if positives is None else f", {positives:,} of them toxic (from a target of 0.5 on)"
    undefined = metrics.get("undefined") or {}
    reasons = [f"- {_code(name)} is {UNDEFINED}: {_plain(reason)}" for name, reason in undefined.items()]
    return [
        f"On {protocol['validation_rows']:,} comments held out for validation{toxic}:",
        benchmark_table([benchmark]),
        metrics_table(metrics),
        "\n".join(reasons),
        *_images(pictures, "roc.png", "precision_recall.png", "reliability.png"),
    ]


def _usage(benchmark: Mapping[str, Any], repo: str) -> list[str]:
    calibration = benchmark.get("calibration")
    cut = Calibration.from_benchmark(calibration).pipeline_threshold
    example = "\n".join(
        [
            "```python",
            "from transformers import pipeline",
            "",
            f'classify = pipeline("text-classification", "{repo}", truncation=True, '
            f"max_length={benchmark['protocol']['max_seq_length']})",
            f"for result in classify({list(EXAMPLES)!r}):".replace("'", '"'),
            f'    print(f"{{result[\'score\']:.4f}}", "toxic" if result["score"] >= {cut:.6g} else "civil")',
            "```",
        ]
    )
    if not calibration:
        scale = (
            "The scores were not calibrated, as the validation comments were too few or of one class: 0.5 is no better "
            "a threshold than another. Choose one on comments of yours."
        )
        return [example, scale]
    scale = (
        "The pipeline gives sigmoid(logit). The calibrated score is sigmoid(logit / temperature), with the temperature "
        f"{number(calibration['temperature'], 4)}; `toxicity.predict` gives that one, and labels with the threshold "
        "that `config.json` holds under `toxicity`. Temperature and thresholds were fitted on "
        f"{calibration['fitted_rows']:,} of the validation comments and measured on the other "
        f"{calibration['held_out_rows']:,}."
    )
    reasons = [
        f"- Precision {row['precision_target']:g}: {_plain(row['reason'])}"
        for row in calibration["thresholds"]
        if row.get("reason")
    ]
    return [
        example,
        scale,
        calibration_table(calibration),
        thresholds_table(calibration),
        "\n".join(reasons),
    ]


def _bias(metrics: Mapping[str, Any], pictures: set[str]) -> list[str]:
    bias = metrics.get("bias")
    if not bias:
        return [
            "How scores differ between groups of people was not measured on the data, as they do not tell whom a "
            "comment is about. That is no sign that they do not differ: models of this kind score comments higher that "
            "merely name gay, black or Muslim people."
        ]
    return [
        "Subgroup AUC: toxic against civil comments that name the group; low where the model confuses them. BPSN AUC: "
        "civil comments that name it against toxic ones that do not; low where naming it raises scores, so that civil "
        "comments are flagged. BNSP AUC: toxic comments that name it against civil ones that do not; low where what is "
        "toxic against it is missed. The power means (p = −5) and the overall AUC make up the final score, a quarter "
        f"each. {final_score_name(bias)}: {number(bias['final_score'])}.",
        bias_table(bias),
        *_images(pictures, "bias.png"),
    ]


def _limits(benchmark: Mapping[str, Any]) -> str:
    protocol = benchmark["protocol"]
    lines = [
        _reads(protocol),
        "- It knows English as people wrote it in its data. Other languages, dialects, newer words, irony and spelling "
        "meant to deceive it are beyond it, or get scores that mean nothing.",
        "- Its labels are what annotators thought, who disagree, and who are not those that a comment hurts.",
        "- Precision, calibration and the share flagged hold for comments like those it was measured on; where toxic "
        "ones are rarer, precision is lower at the same threshold.",
    ]
    return "\n".join(lines)


def _reads(protocol: Mapping[str, Any]) -> str:
    most = protocol["max_seq_length"]
    if (protocol.get("options") or {}).get("head_tail_truncation"):
        return (
            f"- It reads {most} tokens of a comment, from its beginning and its end, and one comment at a time. Only "
            f"`toxicity.predict` does so; the pipeline gives it the first {most}."
        )
    return f"- It reads the first {most} tokens of a comment, and one comment at a time."


def _training(benchmark: Mapping[str, Any], pictures: set[str]) -> list[str]:
    protocol, machine = benchmark["protocol"], benchmark["machine"]
    facts = {
        "Recipe": protocol.get("recipe"),
        "Model to start from": protocol.get("model"),
        "Changes to its config": protocol.get("config_overrides"),
        "Comments to train on": f"{protocol['train_rows']:,}",
        "Epochs": f"{protocol['epochs']:g}",
        "Tokens a comment at most": protocol.get("max_seq_length"),
        "Mixed precision": protocol.get("mixed_precision"),
        "Seed": protocol.get("seed"),
        **{name.replace("_", " ").capitalize(): value for name, value in (protocol.get("optimiser") or {}).items()},
        **{name.replace("_", " ").capitalize(): value for name, value in (protocol.get("options") or {}).items()},
        "Machine": machine.get("device_name") or machine.get("label"),
    }
    rows = [(name, _cell(value)) for name, value in facts.items() if value is not None]
    return [
        markdown_table(("Setting", "Value"), rows),
        "Everything that was measured is in `report/benchmark.json`.",
        *_images(pictures, "training.png", "timing.png"),
    ]


def _license_text(benchmark: Mapping[str, Any], base_model: str | None, dataset_name: str | None) -> str:
    model = benchmark["protocol"]["model"]
    license_id = _license(base_model)
    if license_id == UNKNOWN_LICENSE:
        weights = (
            f"The weights derive from {_code(model)}, whose licence was not known to the program that wrote this card: "
            "see there, and set `license` above to what it asks for."
        )
    else:
        weights = f"The weights derive from {_code(model)}, which is under `{license_id}`; these are under the same."
    terms = DATASETS.get(dataset_name or "", (None, ""))[1]
    return f"{weights} {terms}".strip()


def _license(base_model: str | None) -> str:
    known = LICENSES | {name.rsplit("/", 1)[-1]: license_id for name, license_id in LICENSES.items()}
    return known.get(base_model or "", UNKNOWN_LICENSE)


def _dataset_on_hub(dataset_name: str | None) -> str | None:
    return dataset_name if dataset_name and dataset_name != "sample" and is_hub_id(dataset_name) else None


def _dataset_title(protocol: Mapping[str, Any], dataset_name: str | None) -> str:
    return DATASETS.get(dataset_name or "", (public_name(protocol["dataset"]),))[0]


def _images(pictures: set[str], *names: str) -> list[str]:
    titles = {
        "roc.png": "ROC curve",
        "precision_recall.png": "Precision and recall",
        "reliability.png": "Reliability diagram",
        "bias.png": "Bias AUCs by group",
        "training.png": "Loss and learning rate over steps",
        "timing.png": "Time of each phase",
        "probe.png": "Shift of the score by group named",
    }
    return [f"![{titles[name]}](report/{name})" for name in names if name in pictures]


def _plain(text: Any) -> str:
    """Text of elsewhere as one line of a paragraph or a cell, without what Markdown or HTML would read in it."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return "".join(f"\\{character}" if character in r"\`*_[]<>|#~!" else character for character in line)


def _code(text: Any) -> str:
    """Text of elsewhere as it stands, in a code span that nothing in it ends, also within a table."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return f"`{line.replace('`', chr(39)).replace('|', '¦').strip() or ' '}`"


def _cell(value: Any) -> str:
    return _code(f"{value:g}" if isinstance(value, float) else value)
