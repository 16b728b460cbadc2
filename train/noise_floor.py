"""How much do scores move when nothing but the arithmetic changes? A drift below that is no drift.

When the first checkpoint of a run is audited, some of the distinct texts of every data set are scored again, once in
batches of another size and once in the other number format, and held against what the audit stored. Measured once per
data set, view and number format.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audits.stats.clustered import Estimate, clustered_mean, clustered_rate
from audits.table import concat, make_table, read_table, stamp, write_table
from datamodules.errors import InputError
from datamodules.files import digest_of
from datamodules.storage import writing
from models.calibration import Calibration
from models.ensemble import Scorer
from models.inference import score_tokens
from train.audit_setup import AuditSetup
from train.audited_data import AuditedData
from train.progress import Progress
from train.run_directory import RunDirectory
from train.stored_audits import StoredAudit, read_decisions

# Texts that are scored again; a label that 1 in 300 texts flips is seen with chance 96%.
N_TEXTS = 1_000
SMALLER = 4
OTHER_PRECISION = {"float32": "bf16", "bf16": "float32"}
BATCH_SIZE, PRECISION = "batch-size", "precision"
CHURN, PROBABILITY = "numerical_churn", "numerical_probability_change"


def noise_spec(view: str, corpus_digest: str, precision: str) -> str:
    """Name of what the noise depends on, for the column `spec`: the view, and a digest of tokens and number format."""
    return f"{view}-{digest_of([corpus_digest, precision])[:8]}"


def read_noise(run: RunDirectory) -> pa.Table | None:
    """Read the noise floors of a run; None where none were measured, or the file is damaged."""
    if not run.noise_file.is_file():
        return None
    try:
        return read_table(run.noise_file)
    except InputError:
        return None


def numerical_churn(table: pa.Table | None, audit: StoredAudit, dataset: str, view: str) -> dict[str, float]:
    """Share of texts that the arithmetic alone flips, by label: the larger of batch size and precision.

    Args:
        table: The noise floors of the run.
        audit: The audit that is judged.
        dataset: The data set.
        view: Slug of the view.

    Returns:
        Empty where it was not measured.
    """
    if table is None:
        return {}
    spec = noise_spec(view, audit.datasets[dataset]["corpus"], audit.precision)
    rows = table.filter(pc.equal(table["dataset"], dataset)).to_pylist()
    found: dict[str, float] = {}
    for row in rows:
        if row["spec"] == spec and row["metric"] == CHURN:
            found[row["feature"]] = max(row["estimate"], found.get(row["feature"], 0.0))
    return found


def add_noise(
    run: RunDirectory,
    model: Scorer,
    calibration: Calibration,
    setup: AuditSetup,
    audit: StoredAudit,
    progress: Progress,
) -> bool:
    """Measure the noise of the data sets of an audit whose noise is not known yet, and write it to the run.

    Training does not notice: modes and random states are put back.

    Args:
        run: The run directory.
        model: The audited checkpoint.
        calibration: Its temperatures and thresholds.
        setup: What was audited.
        audit: What the audit stored.
        progress: Shows the scoring.

    Returns:
        Whether anything was measured.

    Raises:
        InputError: The stored scores cannot be read, or the noise cannot be written.
    """
    known = read_noise(run)
    seen = set() if known is None else set(zip(known["dataset"].to_pylist(), known["spec"].to_pylist(), strict=True))
    rows: list[dict[str, Any]] = []
    for audited in setup.audited:
        spec = noise_spec(audited.corpus.views[0].slug, audited.corpus.digest, setup.precision)
        if (audited.corpus.data.name, spec) not in seen:
            rows += [row | {"spec": spec} for row in _rows(model, calibration, setup, audited, audit, progress)]
    if not rows:
        return False
    table = stamp(
        make_table(rows),
        run_id=run.run_id,
        step=audit.step,
        epoch=audit.epoch,
        weights=audit.weights,
        audit_key=audit.audit_key,
    )
    whole = table if known is None else concat([known, table])
    # Without it drift is judged without a numerical floor, which reports say.
    with writing(run.noise_file, f"imprint audit {run.path}"):
        run.noise_file.parent.mkdir(parents=True, exist_ok=True)
        write_table(whole, run.noise_file)
    return True


def _rows(
    model: Scorer,
    calibration: Calibration,
    setup: AuditSetup,
    audited: AuditedData,
    audit: StoredAudit,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Score the drawn texts of one data set again in both ways."""
    corpus = audited.corpus
    drawn = drawn_texts(corpus.rows[corpus.views[0].slug], corpus.text_ids)
    text_ids, probabilities, decisions = read_decisions(audit, corpus.data.name)
    places = pc.index_in(corpus.text_ids.take(pa.array(drawn)), value_set=text_ids).to_numpy()
    tokens, lengths = corpus.input_ids.take(pa.array(drawn)), corpus.lengths[drawn]
    ways = {
        BATCH_SIZE: (setup.precision, max(1, setup.token_budget // SMALLER)),
        PRECISION: (OTHER_PRECISION[setup.precision], setup.token_budget),
    }
    same: dict[str, Any] = {"audit": "drift", "dataset": corpus.data.name, "taxonomy": model.taxonomy.name}
    rows: list[dict[str, Any]] = []
    with progress.bar(f"numerical noise on {corpus.data.name}", len(ways) * len(drawn), "texts") as advance:
        for method, (precision, budget) in ways.items():
            logits = score_tokens(model, tokens, lengths, model.tokeniser.pad_id, precision, budget, advance)
            # Those of the main taxonomy, whose drift is judged.
            again = calibration.probabilities(logits[:, : len(model.labels)])
            flips = calibration.decide(again) != decisions[places]
            # Both as the audit stores them: rounding to float16 is no noise of the arithmetic.
            shift = np.abs(again.astype(np.float16).astype(np.float64) - probabilities[places])
            texts = np.arange(len(drawn))
            columns = same | {"mode": "corrected", "method": method}
            rows += _estimates(clustered_rate(flips, texts), model.labels, columns | {"metric": CHURN})
            rows += _estimates(clustered_mean(shift, texts), model.labels, columns | {"metric": PROBABILITY})
    return rows


def drawn_texts(rows: np.ndarray, text_ids: pa.ChunkedArray) -> np.ndarray:
    """Draw up to `N_TEXTS` distinct texts of a view: those with the smallest digests, so a draw without a seed.

    Args:
        rows: Number of the text that each side reads, int64 [n_pairs, 2].
        text_ids: Digest of every text [n_texts].

    Returns:
        Numbers of the drawn texts, int64, in rising order.
    """
    distinct = np.unique(rows)
    digests = np.array(text_ids.take(pa.array(distinct)).to_pylist())
    return np.sort(distinct[np.argsort(digests, kind="stable")[:N_TEXTS]])


def _estimates(estimate: Estimate, labels: tuple[str, ...], columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per label; a size has no null hypothesis, hence no p-value."""
    names = ("estimate", "std_error", "ci_low", "ci_high", "n", "n_clusters")
    return [
        {**columns, "feature": label, **{name: getattr(estimate, name)[k].item() for name in names}}
        for k, label in enumerate(labels)
    ]
