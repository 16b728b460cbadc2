"""What does a run need before it starts? What a user can get wrong is read and checked here, before a file is made."""

import os
from dataclasses import dataclass
from pathlib import Path

from datamodules.annotated_text import AnnotatedData
from datamodules.annotations import read_annotations
from datamodules.errors import InputError
from datamodules.parts import Part
from datamodules.preferences import PreferenceData, read_preferences
from datamodules.splits import Fold, Splits, split_texts
from datamodules.taxonomy import Taxonomy, load_taxonomy
from train.config import AuditConfig, DataConfig

OWN_TAXONOMY = {
    "sample": "value-imprint",
    "value-imprint": "value-imprint",
    "fulcra": "schwartz",
    "valueeval": "valueeval",
}


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotated texts, split.

    Attributes:
        taxonomy: Their values.
        data: All texts with the read report.
        splits: Train, validation and test.
    """

    taxonomy: Taxonomy
    data: AnnotatedData
    splits: Splits


def data_root(config: DataConfig) -> Path | None:
    """Return the data root: the setting, else IMPRINT_DATA, else none."""
    if config.root is not None:
        return config.root
    value = os.environ.get("IMPRINT_DATA")
    return Path(value) if value else None


def read_annotated_data(config: DataConfig) -> AnnotatedData:
    """Read taxonomy and annotated texts.

    Raises:
        InputError: See `read_annotations` and `load_taxonomy`.
    """
    name = config.taxonomy or OWN_TAXONOMY.get(config.name)
    if name is None:
        raise InputError("a table without a taxonomy", "the taxonomy that its labels belong to", "--data.taxonomy")
    return read_annotations(
        config.name,
        config.path,
        data_root(config),
        load_taxonomy(name),
        text_column=config.text_column,
        label_column=config.label_column,
        group_column=config.group_column,
        id_column=config.id_column,
    )


def split_annotations(data: AnnotatedData, config: DataConfig) -> Annotations:
    """Split annotated texts.

    Raises:
        InputError: Settings that leave a split empty, or a value without a single positive training text.
    """
    fold = None if config.fold is None or config.n_folds is None else Fold(config.fold, config.n_folds)
    fractions = config.val_fraction, config.test_fraction
    splits = split_texts(data.texts, data.test_texts, *fractions, config.split_seed, fold)
    require_positives(data.taxonomy, splits, config.allow_empty_values)
    return Annotations(data.taxonomy, data, splits)


def read_annotations_and_split(config: DataConfig) -> Annotations:
    """Read and split the annotated texts; see `read_annotated_data` and `split_annotations`."""
    return split_annotations(read_annotated_data(config), config)


def require_positives(taxonomy: Taxonomy, splits: Splits, allow_empty: bool) -> None:
    """Raise InputError when no training text carries some label (when none carries any, allowed or not)."""
    empty = labels_without_positives(taxonomy, splits)
    if len(empty) == len(taxonomy.labels) or (empty and not allow_empty):
        raise InputError(
            f"{len(splits.train)} training texts of which none carries {', '.join(empty)}",
            "at least one text for every value",
            "more data, another --data.taxonomy, or --data.allow_empty_values true to learn the other values",
        )


def labels_without_positives(taxonomy: Taxonomy, splits: Splits) -> list[str]:
    """Labels that no training text carries: the classifier cannot learn them."""
    return [label for k, label in enumerate(taxonomy.labels) if not any(text.labels[k] == 1 for text in splits.train)]


def read_audited_data(config: AuditConfig, root: Path | None) -> tuple[PreferenceData, ...]:
    """Read the preference data sets to audit, in order, each once.

    Raises:
        InputError: No data set named, or one that cannot be read.
    """
    if not config.datasets:
        raise InputError("no data set to audit", "at least one", "--audit.datasets, or --audit.enabled false")
    part = Part(config.part, config.held_out_fraction, config.part_seed)
    names = dict.fromkeys(config.datasets)
    read = tuple(read_preferences(name, root, split=config.split, part=part) for name in names)
    own_names = [data.name for data in read]
    if len(set(own_names)) < len(own_names):
        found = f"two data sets of one name among {', '.join(own_names)}"
        raise InputError(found, "distinct file names", "--audit.datasets")
    return read
