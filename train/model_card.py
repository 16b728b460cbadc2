"""What must others know of an exported classifier? Its model card, README.md."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datamodules.preferences import SAMPLE_NAMES
from datamodules.sources import SOURCES
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.encoder import BUNDLED
from models.export_check import Comparison
from train.audit_card import AuditFacts, audit_section, table
from train.stored_scores import N_REPLICATES, StoredScores
from train.usage_card import usage_section

BUNDLED_SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGES = ("imprint", "torch", "transformers", "tokenizers", "pytorch-lightning", "peft", "numpy")
# Metrics of a value, and averages with the name that the Hub has for their kind.
HEADINGS = {"f1": "F1", "precision": "precision", "recall": "recall", "ap": "AP", "f1_top1": "F1 (top-1)"}
HEADINGS |= {"auroc_vs_unlisted": "AUROC vs unlisted"}
AVERAGES = {
    "f1_macro": ("f1", "macro-F1"),
    "f1_micro": ("f1", "micro-F1"),
    "ap_macro": ("average_precision", "macro average precision"),
    "ece_macro": ("ece", "macro calibration error (ECE)"),
    "top1_accuracy": ("accuracy", "top-1 accuracy"),
    "f1_top1_macro": ("f1", "macro-F1 of the top-1 label"),
}
# What the model was built with, and settings of the run that shaped its weights.
ARCHITECTURE = ("pooling", "head", "head_width", "dropout", "encoder_dropout", "encoder_training", "lora")
LOSS = ("loss", "loss_settings", "max_false_negative_rate")
TRAINER = ("max_epochs", "batch_size", "accumulate", "gradient_clip", "precision", "average_weights", "ema_decay")
SAMPLE_NOTE = (
    "It was trained or audited on the embedded sample, which is there to learn the tool with, not to conclude."
)
LICENCE = """## Licence

Not chosen yet: `license` in the head of this file is for whoever publishes the folder to fill in. The licences of the
encoder and of the annotated texts bind what may be chosen."""


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
        stock_class: The class of transformers that loads it; None where `modeling_imprint.py` does.
        comparison: What its probabilities were compared on.
        run: What its run knows; None where there is none at hand.
    """

    title: str
    model: ValueClassifier
    calibration: Calibration
    weights: str
    stock_class: str | None
    comparison: Comparison
    run: RunFacts | None


def model_card(facts: CardFacts) -> str:
    """Write the model card as Markdown."""
    sections = [
        _front_matter(facts),
        _summary(facts),
        usage_section(facts.model, facts.stock_class),
        _data_section(facts.run),
        _metrics_section(facts),
        audit_section(facts.run.audit if facts.run else None, facts.calibration.labels),
        _limits_section(facts),
        _provenance_section(facts),
        LICENCE,
    ]
    return "\n\n".join(sections) + "\n"


def source_of(model: ValueClassifier) -> str | None:
    """Return the hub id of the encoder that training began with; None for a local folder, whose path is nobody's."""
    name = str(model.hparams["encoder_name"])
    if name == BUNDLED:
        return BUNDLED_SOURCE
    is_id = not Path(name).is_absolute() and not name.startswith((".", "~")) and name.count("/") <= 1
    return name if is_id and not Path(name).exists() else None


def _front_matter(facts: CardFacts) -> str:
    """Metadata in YAML, as the Hub reads it; what only the publisher knows is left open."""
    run = facts.run
    data = run.settings["data"]["name"] if run else None
    results = [
        {"type": AVERAGES[name][0], "name": AVERAGES[name][1], "value": round(value, 4)}
        for name, value in (_averages(run.tested) if run and run.tested else {}).items()
    ]
    head: dict[str, Any] = {
        "license": "unknown",  # a value that the Hub knows
        "base_model": source_of(facts.model),
        "datasets": [data] if data in SOURCES else None,
        "metrics": list(dict.fromkeys(result["type"] for result in results)),
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["human-values", f"{'single' if facts.model.softmax else 'multi'}-label-classification", "imprint"],
    }
    if run and results:
        # Files, or a part of the texts: that need not be the data set's own split of the name `test`.
        report = run.environment["data"].get("test_annotations")
        tested = {"type": data, "name": f"{data} ({_files(report) if report else 'texts held out by the run'})"}
        result = {"task": {"type": "text-classification"}, "dataset": tested, "metrics": results}
        head["model-index"] = [{"name": facts.title, "results": [result]}]
    known = {name: value for name, value in head.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _files(report: dict[str, Any]) -> str:
    return ", ".join(Path(file).name for file in report["files"])


def _averages(tested: StoredScores) -> dict[str, float]:
    """Defined averages on test by name."""
    found = {name: tested.metrics.get(name, math.nan) for name in AVERAGES}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _summary(facts: CardFacts) -> str:
    model, taxonomy = facts.model, facts.model.taxonomy
    base = source_of(model)
    encoder = f"[{base}](https://huggingface.co/{base})" if base else "an encoder from a local folder"
    kind = "exactly one" if model.softmax else "any number"
    signed = " Each is two labels, `-for` (the text speaks for it) and `-against`." if taxonomy.signed else ""
    others = ", ".join(task.name for task in model.further)
    joint = f" It was trained together with the values of {others}, which this folder does not score." if others else ""
    values = [
        f"* `{value.slug}`{f' ({value.name})' if value.name != value.slug else ''}"
        f"{f': {value.definition}' if value.definition else ''}"
        for value in taxonomy.values
    ]
    return "\n".join(
        [
            f"# {facts.title}\n",
            f"Which human values does a text carry? A classifier of {len(taxonomy.values)} values, of which a text has "
            f"{kind}: {encoder} ({model.encoder_config['model_type']}), {model.hparams['encoder_training']} "
            f"fine-tuning, pooling {model.pooling.kind}, head {model.hparams['head']}, loss {model.loss_name}.\n",
            f"## Values\n\nTaxonomy `{taxonomy.name}`, version {taxonomy.version}"
            f"{f' ({taxonomy.title})' if taxonomy.title else ''}.{signed}{joint}\n",
            *values,
        ]
    )


def _data_section(run: RunFacts | None) -> str:
    if run is None:
        return "## Data\n\nUnknown: the run directory of this checkpoint was not at hand when it was exported."
    settings = run.settings["data"]
    lines = [
        f"* {Path(report['source']).name} ({_files(report)}): {report['n_kept']:,} annotated texts for {use}"
        for use, report in run.read_reports.items()
    ]
    sizes = [f"{run.n_texts['train']:,} texts to train on"]
    sizes.append(f"{run.n_texts['val']:,} to choose checkpoint, temperatures and thresholds by")
    fold = f" (fold {settings['fold']} of {settings['n_folds']}, from 0)" if settings.get("n_folds") else ""
    sizes.append(f"{run.n_texts['test']:,} for test{fold}")
    lines.append(f"* {', '.join(sizes)}")
    if source := SOURCES.get(settings["name"]):
        lines.append(f"* licence of these texts: {source.licence or 'none stated'}. {source.terms}".rstrip())
        lines.append(f"* {source.citation}")
    return "## Data\n\n" + "\n".join(lines)


def _metrics_section(facts: CardFacts) -> str:
    """Metrics on test per value, with thresholds and temperatures, which stand alone where nothing was tested."""
    calibration, tested = facts.calibration, facts.run.tested if facts.run else None
    names = [name for name in HEADINGS if tested and f"{name}/{calibration.labels[0]}" in tested.metrics]
    with_interval = {name.split("/")[0] for name in tested.intervals} if tested else set()
    shown = [f"{HEADINGS[name]}{' (95% CI)' if name in with_interval else ''}" for name in names]
    headings = ["value", *(("n+", "n") if tested else ()), *shown, "threshold", "temperature"]
    rows = []
    for k, label in enumerate(calibration.labels):
        found = [_with_interval(tested, f"{name}/{label}") for name in names] if tested else []
        counts = [f"{tested.positives[label]:,}", f"{tested.known[label]:,}"] if tested else []
        rows.append([label, *counts, *found, digits(calibration.thresholds[k]), digits(calibration.temperatures[k])])
    lines = [_test_lines(facts.run, tested), "", table(headings, rows), "", *_threshold_lines(calibration)]
    return "## Metrics and thresholds\n\n" + "\n".join(lines)


def _test_lines(run: RunFacts | None, tested: StoredScores | None) -> str:
    if tested is None:
        why = "this checkpoint was not the one that its run tested" if run else "its run was not at hand"
        return f"No test metrics: {why}."
    lines = [f"On {tested.n_texts:,} test texts in {tested.n_groups:,} groups of texts that depend on each other:", ""]
    lines += [f"* {AVERAGES[name][1]}: {_with_interval(tested, name)}" for name in _averages(tested)]
    if "n_values_scored" in tested.metrics:
        lines.append(f"* values in these averages: {tested.metrics['n_values_scored']:.0f} of {len(tested.positives)}")
    about = "n+ test texts carry the value, of n of which it is known whether they do."
    redrawn = f" 95% intervals in brackets: whole groups redrawn {N_REPLICATES:,} times." if tested.intervals else ""
    return "\n".join([*lines, "", about + redrawn])


def _with_interval(tested: StoredScores, name: str) -> str:
    interval = tested.intervals.get(name)
    return digits(tested.metrics[name]) + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _threshold_lines(calibration: Calibration) -> list[str]:
    bound = calibration.max_false_negative_rate
    aim = "for the best F1 of each value" if bound is None else f"to miss at most {bound:g} of a text's values"
    if not calibration.calibrated:
        aim = "where their negatives are known; else a value is on where p is above 1/L, for L values"
    lines = [f"Temperatures and thresholds were fitted on the validation texts, thresholds {aim}."]
    return [*lines, *(["", *(f"* {note}" for note in calibration.notes)] if calibration.notes else [])]


def _limits_section(facts: CardFacts) -> str:
    view = facts.model.view
    lines = [
        "What counts as a value is what the annotators of the training texts made of it, in their language and time.",
        "Probabilities and thresholds were fitted on texts like those of training. On others they are not known to "
        "hold: draw a sample, label it, and look.",
        f"It reads at most {view.max_length} tokens of a text, the {'last' if view.truncation == 'tail' else 'first'} "
        "ones.",
        "Shares of values counted with it are wrong by its errors. It says nothing about the people who wrote a text.",
    ]
    audited = set(facts.run.audit.datasets) if facts.run and facts.run.audit else set()
    if facts.run and (facts.run.settings["data"]["name"] == "sample" or not audited.isdisjoint(SAMPLE_NAMES)):
        lines.append(SAMPLE_NOTE)
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def _provenance_section(facts: CardFacts) -> str:
    """Where everything comes from, without paths of the machine that it was made on."""
    taxonomy, run, compared = facts.model.taxonomy, facts.run, facts.comparison
    lines = [
        f"weights (sha256 of the checkpoint's state dict): `{facts.weights}`",
        f"taxonomy: {taxonomy.name}, version {taxonomy.version}, digest `{taxonomy.digest}`",
        f"export: probabilities of {compared.n_texts} texts ({compared.n_cut} of them cut) differed from those of the "
        f"checkpoint by at most {compared.difference:.1g} in float32",
        f"model: {_listed(facts.model.hparams, ARCHITECTURE + LOSS)}",
    ]
    return "## Provenance\n\n" + "\n".join(f"* {line}" for line in [*lines, *(_run_lines(run) if run else [])])


def _run_lines(run: RunFacts) -> list[str]:
    epoch = "" if run.epoch is None else f", epoch {run.epoch:.2f}"
    datasets = {} if run.audit is None else run.audit.datasets
    git, packages = run.environment.get("git") or {}, run.environment.get("packages", {})
    versions = ", ".join(f"{name} {packages[name]}" for name in PACKAGES if name in packages)
    return [
        f"run: `{run.run_id}`, step {run.step}{epoch}, seed {run.settings['run']['seed']}",
        f"training: {_listed(run.settings['model'], ('class_weights',))}, "
        f"{_listed(run.settings['optim'], tuple(run.settings['optim']))}, {_listed(run.settings['trainer'], TRAINER)}",
        *(
            f"texts for {use}: {Path(file).name}, sha256 `{digest}`"
            for use, report in run.read_reports.items()
            for file, digest in report["files"].items()
        ),
        *(f"audited {Path(name).name}: digest `{digest}`" for name, digest in datasets.items()),
        *([f"imprint commit: `{git['commit']}`{' (changed)' if git.get('dirty') else ''}"] if git else []),
        f"trained with Python {run.environment['python']}, {versions}",
    ]


def _listed(settings: Any, names: tuple[str, ...]) -> str:
    """Name settings with their values; those that are missing, or None because they do not act, are left out."""
    return ", ".join(f"{name} {settings[name]}" for name in names if settings.get(name) is not None)


def digits(value: float) -> str:
    """Write a number with three digits behind the point; undefined is a dash."""
    return f"{value:.3f}" if math.isfinite(value) else "-"
