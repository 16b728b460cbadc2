"""What must others know of an exported classifier? Its model card, README.md."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.preferences import SAMPLE_NAMES
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.encoder import BUNDLED
from models.export import ExportedModel
from models.export_check import Comparison
from train.audit_card import audit_section
from train.markdown import digits, table
from train.stored_scores import StoredScores
from train.usage_card import usage_section

BUNDLED_SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGES = ("imprint", "torch", "transformers", "tokenizers", "pytorch-lightning", "peft", "numpy")
HEADINGS = {"f1": "F1", "precision": "precision", "recall": "recall", "ap": "AP", "f1_top1": "F1 (top-1)"}
HEADINGS |= {"auroc_vs_unlisted": "AUROC vs unlisted"}
AVERAGES = {
    "f1_macro": "macro-F1",
    "f1_micro": "micro-F1",
    "ap_macro": "macro average precision",
    "ece_macro": "macro calibration error (ECE)",
    "top1_accuracy": "top-1 accuracy",
    "f1_top1_macro": "macro-F1 of the top-1 label",
}
SAMPLE_NOTE = (
    "It was trained or audited on the embedded sample, which is there to learn the tool with, not to conclude."
)
LICENCE = """## Licence

To be filled in by whoever publishes this folder, here and in the head of this file. The licences of the encoder and of
the annotated texts bind what may be chosen."""


@dataclass(frozen=True, slots=True, eq=False)
class AuditFacts:
    """One audit of the checkpoint.

    Attributes:
        rows: Its audit table.
        datasets: Digest of each data set, by name.
    """

    rows: pa.Table
    datasets: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """What the run directory knows of the checkpoint.

    Attributes:
        run_id: Name of the run.
        step: Training step of the checkpoint.
        epoch: Epochs done; None when unknown.
        settings: The run's config.
        environment: The run's env.json.
        n_texts: Texts in `train`, `val` and `test`.
        tested: Metrics on test; None when this checkpoint was not tested.
        audit: Its newest audit; None when there is none.
    """

    run_id: str
    step: int
    epoch: float | None
    settings: dict[str, Any]
    environment: dict[str, Any]
    n_texts: dict[str, int]
    tested: StoredScores | None
    audit: AuditFacts | None

    @property
    def read_reports(self) -> dict[str, dict[str, Any]]:
        """Reports on the annotated texts by what they are for."""
        data = self.environment["data"]
        if not data.get("test_annotations"):
            return {"training, validation and test": data["annotations"]}
        return {"training and validation": data["annotations"], "test": data["test_annotations"]}


@dataclass(frozen=True, slots=True, eq=False)
class CardFacts:
    """All that a model card tells.

    Attributes:
        title: Name of the folder.
        model: The classifier.
        calibration: Its temperatures and thresholds.
        weights: Digest of its weights.
        exported: How it is loaded.
        comparison: What its probabilities were compared on.
        run: What its run knows; None where there is none at hand.
    """

    title: str
    model: ValueClassifier
    calibration: Calibration
    weights: str
    exported: ExportedModel
    comparison: Comparison
    run: RunFacts | None


def model_card(facts: CardFacts) -> str:
    """Write the model card as Markdown."""
    sections = [
        _front_matter(facts),
        _summary(facts),
        usage_section(facts.model, facts.exported, facts.comparison),
        _data_section(facts.run),
        _metrics_section(facts),
        audit_section(facts.run.audit.rows if facts.run and facts.run.audit else None, facts.calibration),
        _limits_section(facts),
        _provenance_section(facts),
        LICENCE,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def source_of(model: ValueClassifier) -> str | None:
    """Return the hub id of the encoder that training began with; None for a local folder, whose path is nobody's."""
    name = str(model.hparams["encoder_name"])
    if name == BUNDLED:
        return BUNDLED_SOURCE
    is_id = not Path(name).is_absolute() and not name.startswith((".", "~")) and name.count("/") <= 1
    return name if is_id and not Path(name).exists() else None


def _front_matter(facts: CardFacts) -> str:
    """Metadata in YAML; what only the publisher knows is left as comments."""
    base = source_of(facts.model)
    lines = [
        "---",
        "# Fill in before publishing (https://huggingface.co/docs/hub/model-cards):",
        "# license:",
        "# language:",
        "# datasets:",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        *([f"base_model: {base}"] if base else []),
        "tags:",
        "- human-values",
        "- " + ("single-label-classification" if facts.model.softmax else "multi-label-classification"),
        "- imprint",
        "---",
    ]
    return "\n".join(lines)


def _summary(facts: CardFacts) -> str:
    model, taxonomy = facts.model, facts.model.taxonomy
    base = source_of(model) or "from a local folder"
    kind = "one value per text" if model.softmax else "any number of values per text"
    signed = ", each as two labels, `-for` (in favour) and `-against`" if taxonomy.signed else ""
    architecture = model.encoder_config["model_type"]
    return (
        f"# {facts.title}\n\nScores the human values in a text: {len(taxonomy.values)} values of "
        f"{taxonomy.title or taxonomy.name} ({taxonomy.name}, version {taxonomy.version}){signed}; {kind}. "
        f"Encoder {base} (architecture {architecture}), pooling {facts.exported.pooling}, head "
        f"{facts.exported.head}, loss {model.loss_name}, fine-tuned by imprint."
    )


def _data_section(run: RunFacts | None) -> str:
    if run is None:
        return "## Data\n\nUnknown: the run directory of this checkpoint was not at hand when it was exported."
    lines = [
        f"* {Path(report['source']).name}: {report['n_kept']:,} annotated texts for {use}"
        for use, report in run.read_reports.items()
    ]
    sizes = ", ".join(f"{n:,} {name}" for name, n in run.n_texts.items())
    lines.append(f"* split: {sizes}; temperatures and thresholds were fitted on val")
    return "## Data\n\n" + "\n".join(lines)


def _metrics_section(facts: CardFacts) -> str:
    """Metrics on test per value, with thresholds and temperatures, which stand alone where nothing was tested."""
    calibration, tested = facts.calibration, facts.run.tested if facts.run else None
    names = [name for name in HEADINGS if tested and f"{name}/{calibration.labels[0]}" in tested.metrics]
    headings = ["value", *(("n+", "n") if tested else ()), "threshold", "temperature", *(HEADINGS[n] for n in names)]
    rows = []
    for k, label in enumerate(calibration.labels):
        counts = [f"{tested.positives[label]:,}", f"{tested.known[label]:,}"] if tested else []
        numbers = [calibration.thresholds[k], calibration.temperatures[k]]
        numbers += [tested.metrics[f"{name}/{label}"] for name in names] if tested else []
        rows.append([label, *counts, *map(digits, numbers)])
    lines = [_test_lines(facts.run, tested), "", table(headings, rows), "", *_threshold_lines(calibration)]
    return "## Metrics and thresholds\n\n" + "\n".join(lines)


def _test_lines(run: RunFacts | None, tested: StoredScores | None) -> str:
    if tested is None:
        why = "this checkpoint was not the one that its run tested" if run else "its run was not at hand"
        return f"No test metrics: {why}."
    lines = [f"On {tested.n_texts:,} test texts in {tested.n_groups:,} groups of texts that depend on each other:", ""]
    for name, words in AVERAGES.items():
        if math.isfinite(tested.metrics.get(name, math.nan)):
            own = tested.intervals.get(name)
            interval = f" (95% interval {own.low:.3f} to {own.high:.3f}, groups redrawn)" if own else ""
            lines.append(f"* {words}: {tested.metrics[name]:.3f}{interval}")
    if "n_values_scored" in tested.metrics:
        lines.append(f"* values in these averages: {tested.metrics['n_values_scored']:.0f} of {len(tested.positives)}")
    return "\n".join([*lines, "", "n+ test texts carry the value, of n that are known to or not."])


def _threshold_lines(calibration: Calibration) -> list[str]:
    lines = ["A value is on at or above its threshold; temperatures are part of the weights already."]
    if not calibration.calibrated:
        lines.append("Thresholds were not fitted on known negatives: a value is on where p is above 1/L.")
    return lines + [f"* {note}" for note in calibration.notes]


def _limits_section(facts: CardFacts) -> str:
    view = facts.model.view
    lines = [
        "What counts as a value is what the annotators of the training texts made of it, in their language and time.",
        "Probabilities and thresholds were fitted on texts like those of training. On others they are not known to "
        "hold: draw a sample, label it, and look.",
        f"It reads at most {view.max_length} tokens of a text, the {'first' if view.truncation == 'head' else 'last'} "
        f"ones; it was trained on the view `{view.view}` of dialogues.",
        "Shares of values counted with it are wrong by its errors. It says nothing about the people who wrote a text.",
    ]
    if facts.run and _is_on_sample(facts.run):
        lines.append(SAMPLE_NOTE)
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def _is_on_sample(run: RunFacts) -> bool:
    audited = [] if run.audit is None else list(run.audit.datasets)
    return run.settings["data"]["name"] == "sample" or not set(audited).isdisjoint(SAMPLE_NAMES)


def _provenance_section(facts: CardFacts) -> str:
    """Where everything comes from, without paths of the machine that it was made on."""
    taxonomy, run = facts.model.taxonomy, facts.run
    lines = [f"weights (sha256 of the state dict): `{facts.weights}`"]
    lines.append(f"taxonomy: {taxonomy.name}, version {taxonomy.version}, digest `{taxonomy.digest}`")
    if run is not None:
        epoch = "" if run.epoch is None else f", epoch {run.epoch:.2f}"
        lines.append(f"run: `{run.run_id}`, step {run.step}{epoch}, seed {run.settings['run']['seed']}")
        for section in ("model", "optim"):
            own = [f"{name} {value}" for name, value in run.settings[section].items() if _is_public(name, value)]
            lines.append(f"{section}: {', '.join(own)}")
        lines += [
            f"texts for {use}: {Path(file).name}, sha256 `{digest}`"
            for use, report in run.read_reports.items()
            for file, digest in report["files"].items()
        ]
        datasets = {} if run.audit is None else run.audit.datasets
        lines += [f"audited {Path(name).name}: digest `{digest}`" for name, digest in datasets.items()]
        git = run.environment.get("git") or {}
        lines += [f"imprint commit: `{git['commit']}`{' (changed)' if git.get('dirty') else ''}"] if git else []
        packages = run.environment.get("packages", {})
        versions = ", ".join(f"{name} {packages[name]}" for name in PACKAGES if name in packages)
        lines.append(f"trained with Python {run.environment['python']}, {versions}")
    return "## Provenance\n\n" + "\n".join(f"* {line}" for line in lines)


def _is_public(name: str, value: Any) -> bool:
    """Tell settings that say something, and nothing about the machine."""
    return value is not None and name != "encoder" and not (isinstance(value, str) and Path(value).is_absolute())
