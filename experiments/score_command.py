"""`imprint score`: calibrated probabilities and decisions for texts of your own."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.files import whole_file
from datamodules.portions import portions
from datamodules.score_texts import ScoreTexts, check_texts
from experiments.parsing import command_parser
from experiments.table_output import require_table_output
from models.calibration import Calibration
from models.digest import weights_digest
from models.ensemble import Scorer, load_scorer
from models.inference import score_tokens
from models.precision import PRECISIONS, default_device
from train.predictions import all_score_columns
from train.progress import Progress
from train.thresholds import find_thresholds

# Texts that are scored together, in length order.
TEXTS_AT_ONCE = 10_000


def run_score(arguments: Sequence[str]) -> int:
    """Run `imprint score`; see `imprint score --help`."""
    parser = command_parser("score", "Score texts as they stand: one output row per input row.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="Checkpoint file of a run")
    parser.add_argument("--input", type=Path, required=True, help="csv, jsonl, json or parquet file with the texts")
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
    require_table_output(settings.output, [settings.input])
    replaced = settings.output.exists()
    progress = Progress()
    model = load_scorer(settings.checkpoint).to(default_device())
    weights = weights_digest(model.state_dict())
    calibration = find_thresholds(settings.checkpoint, weights, model, settings.thresholds)
    texts = check_texts(settings.input, settings.text_column, settings.id_column)
    origin = {"weights": weights, "calibration": json.dumps(calibration.to_json()), "taxonomy": model.taxonomy.digest}
    with progress.bar(f"scoring {texts.path.name}", texts.n, "texts") as advance, whole_file(settings.output) as part:
        n_cut = 0
        with pq.ParquetWriter(part, output_schema(calibration, origin), compression="zstd") as out:
            for ids, tokens, cut in tokenised_blocks(texts, model):
                n_cut += cut
                lengths = np.array([len(row) for row in tokens])
                options = model.tokeniser.pad_id, settings.precision, settings.token_budget, advance
                logits = score_tokens(model, tokens, lengths, *options)
                columns = {"text_id": ids, **all_score_columns(logits, calibration)}
                out.write_table(pa.table(columns, schema=out.schema))
    into = f"{settings.output}{' (replaced)' if replaced else ''}"
    print(f"{texts.n} texts scored into {into}; {n_cut} of them cut at {model.view.max_length} tokens")
    if texts.n_damaged:
        print(f"warning: {texts.n_damaged} of them look mis-decoded (mojibake): mend the encoding and score them again")
    for note in calibration.notes:
        print(note)
    return 0


def tokenised_blocks(texts: ScoreTexts, model: Scorer) -> Iterator[tuple[list[str], list[np.ndarray], int]]:
    """Yield ids, token ids and the number of cut texts, for some thousand texts at a time."""
    view = model.view
    ids: list[str] = []
    tokens: list[np.ndarray] = []
    n_cut = 0
    for rows in portions(texts.read(), lambda row: len(row[1])):
        tokenised = model.tokeniser.encode([("", text) for _, text in rows], view.max_length, view.truncation)
        ids += [text_id for text_id, _ in rows]
        tokens += [np.asarray(row, dtype=np.int32) for row in tokenised.ids]
        n_cut += int(tokenised.truncated.sum())
        if len(ids) >= TEXTS_AT_ONCE:
            yield ids, tokens, n_cut
            ids, tokens, n_cut = [], [], 0
    if ids:
        yield ids, tokens, n_cut


def output_schema(calibration: Calibration, origin: dict[str, str]) -> pa.Schema:
    """Columns of the output: text_id, and per label a probability `<label>` and a decision `<label>_on`.

    Labels of a further taxonomy are `<taxonomy>.<label>`.
    """
    further = [f"{name}.{label}" for name, own in calibration.further.items() for label in own.labels]
    labels = [*calibration.labels, *further]
    pairs = [((label, pa.float64()), (f"{label}_on", pa.bool_())) for label in labels]
    return pa.schema([("text_id", pa.string()), *(field for pair in pairs for field in pair)], metadata=origin)
