"""`imprint score`: calibrated probabilities and decisions for texts of your own."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import InputError
from datamodules.files import is_unicode, require_output, whole_file
from datamodules.tabular import is_missing, read_table_file
from experiments.parsing import command_parser
from models.classifier import load_classifier
from models.digest import weights_digest
from models.inference import score_tokens
from models.precision import PRECISIONS, default_device
from train.predictions import score_columns
from train.progress import Progress
from train.thresholds import find_thresholds


def run_score(arguments: Sequence[str]) -> int:
    """Run `imprint score`; see `imprint score --help`."""
    parser = command_parser("score", "Score texts as they stand: one output row per input row.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="Checkpoint file of a run")
    parser.add_argument("--input", type=Path, required=True, help="csv, jsonl or parquet file with the texts")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--text_column", type=str, default="text", help="Column with the text")
    parser.add_argument(
        "--id_column",
        type=str | None,
        default=None,
        help="Column with ids; else text_id, else row numbers",
    )
    parser.add_argument(
        "--thresholds", type=Path | None, default=None, help="Thresholds file in place of the run's own"
    )
    parser.add_argument("--precision", type=str, default="auto", help=f"One of {', '.join(PRECISIONS)}")
    parser.add_argument("--token_budget", type=int, default=2048, help="Padded tokens per batch")
    settings = parser.parse_args(list(arguments))
    if settings.output.suffix != ".parquet":
        raise InputError(f"--output {settings.output}", "a name that ends in .parquet", "--output")
    if settings.output.resolve() == settings.input.resolve():
        raise InputError(f"{settings.output} as input and as output", "two files", "--output")
    require_output(settings.output, "--output")
    replaced = settings.output.exists()
    progress = Progress()
    model = load_classifier(settings.checkpoint).to(default_device())
    weights = weights_digest(model.state_dict())
    calibration = find_thresholds(settings.checkpoint, weights, model.labels, settings.thresholds)
    origin = {"weights": weights, "calibration": json.dumps(calibration.to_json()), "taxonomy": model.taxonomy.digest}
    ids, texts = read_texts(settings.input, settings.text_column, settings.id_column)
    view = model.view
    tokens = model.tokeniser.encode([("", text) for text in texts], view.max_length, view.truncation)
    lengths = np.array([len(row) for row in tokens.ids])
    with progress.bar(f"scoring {settings.input.name}", len(texts), "texts") as advance:
        logits = score_tokens(
            model,
            tokens.ids,
            lengths,
            model.tokeniser.pad_id,
            settings.precision,
            settings.token_budget,
            advance,
        )
    with whole_file(settings.output) as part:
        table = pa.table({"text_id": ids, **score_columns(logits, calibration)})
        pq.write_table(table.replace_schema_metadata(origin), part, compression="zstd")
    cut = int(tokens.truncated.sum())
    into = f"{settings.output}{' (replaced)' if replaced else ''}"
    print(f"{len(texts)} texts scored into {into}; {cut} of them cut at {view.max_length} tokens")
    if not calibration.calibrated:
        print("uncalibrated: no known negatives were there to fit thresholds on, so a value is on when p > 1/L")
    return 0


def read_texts(path: Path, text_column: str, id_column: str | None) -> tuple[list[str], list[str]]:
    """Read ids and texts, one per row.

    Raises:
        InputError: An unreadable file, a missing text column, no rows, or a row without text (the row is named).
    """
    table = read_table_file(path, "--input")
    table.require([text_column], "--text_column")
    if not table.rows:
        raise InputError(f"no row in {path}", "at least one text", "--input")
    texts = [row.get(text_column) for row in table.rows]
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip() or not is_unicode(text):
            raise InputError(f"row {number} of {path} without a text", "a text in every row", "fill or remove the row")
    if id_column is not None:
        table.require([id_column], "--id_column")
    id_column = id_column or "text_id"
    has_ids = id_column in table.columns
    if has_ids and any(is_missing(row.get(id_column)) for row in table.rows):
        raise InputError(f"rows without {id_column} in {path}", "an id in every row, or in none", "--id_column")
    ids = [str(row[id_column]) if has_ids else str(number) for number, row in enumerate(table.rows)]
    if len(set(ids)) < len(ids):
        raise InputError(f"ids that occur twice in column {id_column} of {path}", "distinct ids", "--id_column")
    return ids, [str(text) for text in texts]
