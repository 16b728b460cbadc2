"""Which texts carry labels?"""

from pathlib import Path

from datamodules.annotated_text import AnnotatedData, AnnotatedText, dialogue_group
from datamodules.annotation_layouts import (
    FIX,
    SAMPLE,
    read_fulcra,
    read_sample,
    read_value_imprint,
    read_valueeval,
)
from datamodules.annotation_table import read_table
from datamodules.errors import InputError
from datamodules.hh_quality import read_hh_quality
from datamodules.read_report import ReadReport
from datamodules.taxonomy import Taxonomy

__all__ = [
    "AnnotatedData",
    "AnnotatedText",
    "ReadReport",
    "dialogue_group",
    "read_annotations",
    "read_fulcra",
    "read_hh_quality",
    "read_sample",
    "read_table",
    "read_value_imprint",
    "read_valueeval",
]

VALUE_IMPRINT_FILE = Path("value-imprint") / "human_values_annotation_groundtruth.csv"
FULCRA_FILE = Path("fulcra") / "trustworthy_data.jsonl"
VALUEEVAL_FOLDER = Path("valueeval")
HH_QUALITY_FILE = Path("hh-audit") / "df_labeledharmlessoutputs_second_pass.csv"
NAMES = ("sample", "value-imprint", "fulcra", "valueeval", "hh-quality", "table")


def read_annotations(
    name: str,
    path: Path | None,
    root: Path | None,
    taxonomy: Taxonomy,
    *,
    text_column: str = "text",
    label_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
) -> AnnotatedData:
    """Read a data set of annotated texts.

    Args:
        name: One of sample, value-imprint, fulcra, valueeval, hh-quality, table.
        path: The file (for valueeval the folder of its four files), in place of the one under `root`; `table` needs it.
        root: Data root, for value-imprint, fulcra, valueeval and hh-quality.
        taxonomy: What the labels mean.
        text_column: As `read_table`; for `table` only, as the three that follow.
        label_column: As `read_table`.
        group_column: As `read_table`.
        id_column: As `read_table`.

    Raises:
        InputError: An unknown name, no path or root where one is needed, or as the reader of the layout.
    """
    match name:
        case "sample":
            if path is not None:
                raise InputError(
                    f"--data.path {path} with --data.name sample", "no path: the sample is embedded", "--data.name"
                )
            texts, report = read_sample(taxonomy)
        case "value-imprint":
            path = _locate(name, path, root, VALUE_IMPRINT_FILE)
            texts, report = read_value_imprint(path, taxonomy)
        case "fulcra":
            path = _locate(name, path, root, FULCRA_FILE)
            texts, report = read_fulcra(path, taxonomy)
        case "valueeval":
            return _read_valueeval_splits(_locate(name, path, root, VALUEEVAL_FOLDER), taxonomy)
        case "hh-quality":
            path = _locate(name, path, root, HH_QUALITY_FILE)
            texts, report = read_hh_quality(path, taxonomy, FIX)
        case "table":
            if path is None:
                raise InputError("no file for --data.name table", "a csv, jsonl or parquet file", "--data.path")
            texts, report = read_table(path, taxonomy, text_column, label_column, group_column, id_column)
        case _:
            raise InputError(f"--data.name {name}", f"one of {', '.join(NAMES)}", "--data.name")
    return AnnotatedData(name, taxonomy, texts, None, report, is_sample=_is_embedded(path))


def _locate(name: str, path: Path | None, root: Path | None, relative: Path) -> Path:
    if path is not None:
        return path
    if root is None:
        fetch = f"imprint data fetch {name} --root DIR gets it"
        raise InputError("no data root", f"a data root that holds {relative}", f"{FIX}; {fetch}")
    return root / relative


def _read_valueeval_splits(folder: Path, taxonomy: Taxonomy) -> AnnotatedData:
    if not folder.is_dir():
        raise InputError(
            f"no folder at {folder}",
            "a folder with {arguments,labels}-{training,validation}.tsv",
            FIX,
        )
    (texts, report), (test_texts, test_report) = (
        read_valueeval(folder / f"arguments-{part}.tsv", folder / f"labels-{part}.tsv", taxonomy)
        for part in ("training", "validation")
    )
    return AnnotatedData("valueeval", taxonomy, texts, test_texts, report, is_sample=False, test_report=test_report)


def _is_embedded(path: Path | None) -> bool:
    return path is None or path.resolve().parent == SAMPLE.parent
