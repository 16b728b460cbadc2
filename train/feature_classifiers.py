"""What does a fixed classifier find in the responses, as further features that rewards are regressed on?

Its probabilities stand beside the text features as `<name>.<label>`, the same for every checkpoint that is audited, so
that the slopes of the audited values are told with them held equal. They are scored once per data set: the answer lies
in the cache, under what it depends on (weights, temperatures, tokens, view, data).

The probabilities of a softmax sum to one: with all of them, and an intercept or an effect of the pair, no slope would
be identified. So one label, the reference, has no column, and a slope says what it is worth to be that label and not
the reference.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from audits.base import TextFeatures
from datamodules.corpus import build_corpus
from datamodules.errors import InputError
from datamodules.files import digest_of, require_output, whole_file
from datamodules.overlap import trained_on
from datamodules.preference_data import PreferenceData
from datamodules.storage import writing
from datamodules.views import ViewRequest
from models.calibration import Calibration
from models.digest import weights_digest
from models.ensemble import Scorer, load_scorer
from models.inference import score_tokens
from train.audit_config import AuditConfig, FeatureClassifier
from train.check_config import NAME
from train.progress import Progress
from train.thresholds import find_thresholds
from train.training_texts import training_texts_beside

FIX = "--audit.feature_classifiers"
# Part of the cache key: raise it when scoring or the layout of the cached table changes.
LAYOUT = 1
TOKEN_BUDGET = 4096
_PROBABILITY = "probability/"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureModel:
    """A classifier whose probabilities are features.

    Attributes:
        name: Begins the names of its features.
        path: Its checkpoint file.
        model: The classifier or ensemble; of several taxonomies, the main one is read.
        weights: Digest of its state dict.
        calibration: Its temperatures.
        view: What it reads of each dialogue.
        reference: Label without a column; empty where each has one.
        training_texts: Digests of the texts that it was trained on, uint64 [n]; None where they are unknown.
    """

    name: str
    path: Path
    model: Scorer
    weights: str
    calibration: Calibration
    view: ViewRequest
    reference: str
    training_texts: np.ndarray | None

    @property
    def kept(self) -> tuple[str, ...]:
        """Labels that have a column."""
        return tuple(label for label in self.model.labels if label != self.reference)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(f"{self.name}.{label}" for label in self.kept)

    @property
    def identity(self) -> list[Any]:
        """All that its probabilities depend on, besides the data."""
        own = self.model
        numbers = [list(own.labels), list(self.calibration.temperatures), own.softmax]
        return [LAYOUT, self.weights, self.view.slug, own.tokeniser.digest, numbers]


def require_feature_classifiers(sources: Sequence[FeatureClassifier]) -> None:
    """Check names and paths before anything is loaded.

    Raises:
        InputError: A name that is none, two classifiers of one name, or one without a path.
    """
    names = [source.name for source in sources]
    if wrong := [name for name in names if not NAME.fullmatch(name)]:
        needed = "at most 60 letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
        raise InputError(f"a feature classifier named {wrong[0]!r}", needed, FIX)
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"two feature classifiers named {twice[0]}", "distinct names", FIX)
    if pathless := [source.name for source in sources if not source.path]:
        raise InputError(f"feature classifier {pathless[0]} without a path", "its checkpoint file", FIX)


def open_feature_classifiers(
    sources: Sequence[FeatureClassifier], device: torch.device, progress: Progress
) -> tuple[FeatureModel, ...]:
    """Load the classifiers with their temperatures.

    Args:
        sources: Which ones.
        device: Where they score.
        progress: Takes a line on each.

    Raises:
        InputError: As `require_feature_classifiers`; no such checkpoint, one without thresholds, a length that it
            cannot read, or a reference that is none of its labels.
    """
    require_feature_classifiers(sources)
    return tuple(_open(source, device, progress) for source in sources)


def _open(source: FeatureClassifier, device: torch.device, progress: Progress) -> FeatureModel:
    fix, path = f"{FIX} ({source.name})", Path(source.path)
    model = load_scorer(path, fix)
    view = ViewRequest(
        source.view or model.view.view,
        model.view.truncation,
        model.view.max_length if source.max_length is None else source.max_length,
    )
    model.tokeniser.require_length(view.max_length)
    weights = weights_digest(model.state_dict())
    calibration = find_thresholds(path, weights, model, None)
    reference = source.reference or (model.labels[0] if model.softmax else "")
    if reference and (reference not in model.labels or len(model.labels) == 1):
        found = f"the reference {reference} of feature classifier {source.name}"
        raise InputError(found, f"one of its labels ({', '.join(model.labels)}), beside others", fix)
    seen = training_texts_beside(path)
    if reference:
        progress.say(f"  {source.name}: what its labels are worth is told against the reference {reference}")
    if seen is None:
        progress.say(f"  not known which texts {source.name} was trained on: no pair is left out for that")
    return FeatureModel(source.name, path, model.to(device), weights, calibration, view, reference, seen)


def with_classifiers(
    features: TextFeatures,
    models: Sequence[FeatureModel],
    data: PreferenceData,
    config: AuditConfig,
    cache_dir: Path,
    progress: Progress,
) -> tuple[TextFeatures, tuple[dict[str, Any], ...]]:
    """Add the probabilities of feature classifiers to the features of a data set.

    Pairs with a text that a classifier was trained on have none of its features (NaN), so that regressions leave them
    out and count them, unless `config.trained_on` keeps them.

    Returns:
        The features, and of each classifier where its features come from, JSON-able.

    Raises:
        InputError: A name that another feature has, or a cache that cannot be written.
    """
    names = list(features.names)
    for model in models:
        if taken := [name for name in model.features if name in names]:
            raise InputError(f"two features named {taken[0]}", "distinct names", f"another name in {FIX}")
        names += model.features
    blocks, records = [features.values], []
    for model in models:
        probabilities, truncated = classifier_scores(model, data, cache_dir, progress)
        values = probabilities[:, :, [model.model.labels.index(label) for label in model.kept]]
        marks = _trained_on(model, data, config, progress)
        record = _record(model, data, truncated, marks)
        if marks is not None and config.trained_on == "exclude":
            values[marks] = np.nan
            record["n_pairs_left_out"] = int(marks.sum())
        blocks.append(values)
        records.append(record)
    return TextFeatures(tuple(names), np.concatenate(blocks, axis=2), features.length_name), tuple(records)


def classifier_scores(
    model: FeatureModel, data: PreferenceData, cache_dir: Path, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Score both sides of every pair, each distinct text once, or read the scores of an earlier run from the cache.

    Returns:
        Probabilities, float64 [n_pairs, 2, n_labels], and whether the text was cut, bool [n_pairs, 2].

    Raises:
        InputError: The files changed since they were first read, or the cache cannot be written.
    """
    path = cache_dir / f"{digest_of([*model.identity, data.digest])[:32]}.classifier.parquet"
    labels = model.model.labels
    table = _cached(path, data, labels, progress)
    if table is None:
        require_output(path, "the cache_dir setting")
        table = _scored(model, data, cache_dir, progress)
        with writing(path, "score again, or name another cache_dir"), whole_file(path) as part:
            pq.write_table(table, part, write_page_checksum=True)
    pairs = (len(data.index), 2)
    columns = [table[f"{_PROBABILITY}{label}"].to_numpy().reshape(pairs) for label in labels]
    return np.stack(columns, axis=2), table["truncated"].to_numpy().reshape(pairs)


def require_other_classifiers(weights: str, records: Iterable[dict[str, Any]]) -> None:
    """Raise InputError where features are the probabilities of the very checkpoint that is to be audited.

    Args:
        weights: Digest of the checkpoint to be audited.
        records: Where the features come from, of `with_classifiers`.
    """
    for record in records:
        if record["weights"] == weights:
            found = f"the feature classifier {record['name']}, the very checkpoint that is audited ({weights[:8]})"
            raise InputError(found, "a fixed checkpoint of another run", f"the path in {FIX}")


def _trained_on(
    model: FeatureModel, data: PreferenceData, config: AuditConfig, progress: Progress
) -> np.ndarray | None:
    """Mark the pairs with a text that a classifier was trained on, bool [n_pairs], and say how many they are."""
    if model.training_texts is None:
        return None
    label = f"looking for training texts of {model.name} in {data.name}"
    with progress.bar(label, len(data.index), "pairs") as advance:
        marks = trained_on(data, model.training_texts, advance)
    if marks.any():
        what = "left out of the regressions" if config.trained_on == "exclude" else "kept"
        share = f"{int(marks.sum()):,} of {len(marks):,} pairs of {data.name}"
        progress.say(f"  {share} hold a text that {model.name} was trained on; they are {what}")
    return marks


def _record(
    model: FeatureModel, data: PreferenceData, truncated: np.ndarray, marks: np.ndarray | None
) -> dict[str, Any]:
    taxonomy = model.model.taxonomy
    return {
        "name": model.name,
        "path": str(model.path),
        "weights": model.weights,
        "taxonomy": {"name": taxonomy.name, "version": taxonomy.version, "digest": taxonomy.digest},
        "features": list(model.features),
        "reference": model.reference,
        "temperatures": dict(zip(model.calibration.labels, model.calibration.temperatures, strict=True)),
        "view": model.view.slug,
        "digest": digest_of([*model.identity, data.digest]),
        "n_total": truncated.size,
        "n_truncated": int(truncated.sum()),
        "n_pairs_trained_on": None if marks is None else int(marks.sum()),
        "n_pairs_left_out": 0,
    }


def _scored(model: FeatureModel, data: PreferenceData, cache_dir: Path, progress: Progress) -> pa.Table:
    own = model.model
    with progress.bar(f"tokenising {data.name} for {model.name}", len(data.index), "pairs") as advance:
        corpus = build_corpus(data, [model.view], own.tokeniser, cache_dir, advance)
    with progress.bar(f"{model.name} of {data.name}", len(corpus.lengths), "texts") as advance:
        pad_id = own.tokeniser.pad_id
        logits = score_tokens(own, corpus.input_ids, corpus.lengths, pad_id, "float32", TOKEN_BUDGET, advance)
    # Columns of further taxonomies stand behind those of the main one.
    probabilities = model.calibration.probabilities(logits[:, : len(own.labels)])
    rows = corpus.rows[model.view.slug].ravel()
    columns = {f"{_PROBABILITY}{label}": probabilities[rows, k] for k, label in enumerate(own.labels)}
    return pa.table(_keys(data) | {"truncated": corpus.truncated[model.view.slug].ravel()} | columns)


def _keys(data: PreferenceData) -> dict[str, np.ndarray]:
    return {"pair_id": np.repeat(data.index.pair_ids, 2), "side": data.index.sides.ravel()}


def _cached(path: Path, data: PreferenceData, labels: Sequence[str], progress: Progress) -> pa.Table | None:
    """Return a cached table; None where there is none, or no whole one, which is said."""
    if not path.is_file():
        return None
    try:
        # Not read_table, which takes folders named like "a=b" above the file for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pa.ArrowException, OSError):
        table = None
    kinds = {f"{_PROBABILITY}{label}": pa.float64() for label in labels}
    kinds = {"pair_id": pa.string(), "side": pa.string(), "truncated": pa.bool_()} | kinds
    if table is None or not table.schema.equals(pa.schema(kinds)) or len(table) != 2 * len(data.index):
        progress.say(f"  {path} is damaged: scored again")
        return None
    return table
