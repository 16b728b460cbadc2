"""What does a run need before it starts? What a user can get wrong is read and checked here, before a file is made."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.annotated_text import AnnotatedData
from datamodules.annotations import read_annotations
from datamodules.errors import InputError
from datamodules.joint_splits import without_overlap
from datamodules.parts import Part
from datamodules.preferences import PreferenceData, read_preferences
from datamodules.splits import Fold, Splits, split_texts
from datamodules.taxonomy import Taxonomy, load_taxonomy
from train.audit_config import AuditConfig
from train.config import DataConfig, FurtherData

# As predictions/*-test-reliability.parquet and *-test-signed.parquet are named, beside those of a further taxonomy,
# predictions/*-test-<taxonomy>.parquet.
RESERVED = ("reliability", "signed")
OWN_TAXONOMY = {
    "sample": "value-imprint",
    "value-imprint": "value-imprint",
    "fulcra": "schwartz",
    "valueeval": "valueeval",
    "hh-quality": "hh-quality",
}


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotated texts, split.

    Attributes:
        taxonomy: Their values.
        data: All texts with the read report.
        splits: Train, validation and test.
        further: The same of the further data sets.
    """

    taxonomy: Taxonomy
    data: AnnotatedData
    splits: Splits
    further: tuple["Annotations", ...] = ()

    @property
    def all(self) -> tuple["Annotations", ...]:
        """This data set and the further ones."""
        return (self, *self.further)

    def splits_to_dict(self) -> dict[str, Any]:
        """Ids per split with the counts, as `splits.json` holds them."""
        further = {own.taxonomy.name: own.splits.to_dict() for own in self.further}
        return self.splits.to_dict() | ({"further": further} if further else {})


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


def read_further_data(config: DataConfig) -> tuple[AnnotatedData, ...]:
    """Read the further data sets that a run is trained on.

    Raises:
        InputError: As `read_annotated_data`; the message names the data set.
    """
    found = []
    for further in config.also:
        try:
            found.append(read_annotated_data(_settings_of(further, config)))
        except InputError as error:
            fix = error.fix.replace("--data.path", "path in --data.also").replace(
                "--data.taxonomy", "its taxonomy there"
            )
            raise InputError(f"{error.found} ({further.name} in data.also)", error.needed, fix) from error
    return tuple(found)


def split_with_further(data: AnnotatedData, further: Sequence[AnnotatedData], config: DataConfig) -> Annotations:
    """Split the annotated texts of all data sets, each by its own rule, so that none trains on what another tests on.

    Raises:
        InputError: As `split_annotations`, or two data sets of one taxonomy.
    """
    own = split_annotations(data, config)
    if not further:
        return own
    names = [each.taxonomy.name for each in (data, *further)]
    if doubled := [name for name in names if names.count(name) > 1]:
        found = f"two data sets of taxonomy {doubled[0]}, which would be two heads of the same values"
        fix = "leave one out of --data.also, or put their texts into one table (--data.name table)"
        raise InputError(found, "a taxonomy of its own for each data set", fix)
    if taken := [name for name in names[1:] if name in RESERVED]:
        found = f"a further data set of taxonomy {taken[0]}, whose predictions would lie where other files do"
        raise InputError(found, "another name", "rename the taxonomy in its YAML file, or make it that of --data.name")
    settings = [_settings_of(each, config) for each in config.also]
    others = [split_annotations(each, own_settings) for each, own_settings in zip(further, settings, strict=True)]
    splits = without_overlap([each.splits for each in (own, *others)])
    whole = [replace(each, splits=part) for each, part in zip((own, *others), splits, strict=True)]
    for each in whole:
        if not each.splits.train:
            found = f"no training text of {each.data.name} that no other data set validates or tests on"
            raise InputError(found, "data sets with other texts", "--data.also")
        require_positives(each.taxonomy, each.splits, config.allow_empty_values)
    return replace(whole[0], further=tuple(whole[1:]))


def _settings_of(further: FurtherData, config: DataConfig) -> DataConfig:
    """Settings of a further data set as if it stood alone."""
    own = {"name": further.name, "path": further.path, "taxonomy": further.taxonomy}
    return replace(config, **own, n_folds=None, fold=None, also=[])  # type: ignore[arg-type]


def read_annotations_and_split(config: DataConfig) -> Annotations:
    """Read and split the annotated texts of all data sets; see `read_annotated_data` and `split_with_further`."""
    return split_with_further(read_annotated_data(config), read_further_data(config), config)


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
