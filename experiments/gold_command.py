"""`imprint gold draw`: which responses should people label, so that audits can be corrected for wrong predictions?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from audits.base import ScoredPairs
from datamodules.errors import InputError
from datamodules.files import require_output
from datamodules.gold_draw import BLOCK, GoldDraw, draw_units, rarest_label, shown_order
from datamodules.gold_file import DESIGN, FREE, LONGEST_CELL, PREDICTED, UNITS, shown_items, write_gold_file
from datamodules.preference_data import PreferenceData
from datamodules.storage import writing
from experiments.parsing import command_parser, read_config
from experiments.summary import SAMPLE_NOTE
from train.config import Config
from train.drift_series import best_audited
from train.inputs import data_root, read_audited_data
from train.run_directory import RunDirectory
from train.stored_audits import StoredAudit, scored_pairs, stored_audits, views_of

ENDINGS = (".csv", ".jsonl")
Stratify = Literal["predicted", "subset", "none"]
Unit = Literal["pair", "text"]
USAGE = "usage: imprint gold draw RUN_DIR --dataset NAME --output gold.csv [--n 200] [--stratify predicted] .."
DESCRIPTION = """Draw responses of an audited data set for labelling by people, from predictions that a run has stored.
Whoever labels sees the text, not which response people preferred nor what the classifier says: item_id is a digest that
`imprint audit RUN_DIR --gold FILE` joins by. Fill every label column of a row with 1 or 0 (true, false, yes, no), or
leave the row blank; keep all rows, and the columns on the right, which record how each was drawn. Labels of a second
person go into columns LABEL_2. Rare strata are over-sampled (by the root of their size), with the probability recorded.
"""
NONE, EVERYTHING = "none predicted", "everything"


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """What units lie in: their names in order, and the number of each unit's, int64 [n_units]."""

    names: tuple[str, ...]
    of_unit: np.ndarray


def run_gold(arguments: Sequence[str]) -> int:
    """Run `imprint gold`; see `imprint gold --help`."""
    match list(arguments[:1]):
        case ["draw"]:
            return _draw(arguments[1:])
        case ["-h" | "--help"]:
            print(f"{USAGE}\n\nimprint gold draw --help tells more.")
            return 0
        case other:
            raise InputError(f"imprint gold {' '.join(other)}".strip(), "draw", "imprint gold --help")


def _draw(arguments: Sequence[str]) -> int:
    parser = command_parser("gold draw", DESCRIPTION)
    parser.add_argument("run_dir", type=Path, help="Run directory with an audit of the data set")
    parser.add_argument("--dataset", type=str, required=True, help="Audited data set")
    parser.add_argument("--n", type=int, default=200, help="Responses to label; a pair has two")
    parser.add_argument(
        "--stratify", type=Stratify, default="predicted", help="By the rarest value predicted, by subset, or not at all"
    )
    parser.add_argument(
        "--unit", type=Unit, default="pair", help="pair: both responses, which contrasts within pairs need; or text"
    )
    parser.add_argument("--seed", type=int, default=0, help="Another seed draws others")
    parser.add_argument("--output", type=Path, required=True, help=".csv or .jsonl file to write; never overwritten")
    parser.add_argument(
        "--checkpoint", type=str | None, default=None, help="Step or weights digest of an audited one; the best"
    )
    parser.add_argument("--show_probabilities", action="store_true", help="Add what the classifier says, not blind")
    parser.add_argument("--show_keys", action="store_true", help="Add pair_id and side, not blind")
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; as in the run when left out")
    settings = parser.parse_args(list(arguments))
    _check(settings)
    run = RunDirectory.open(settings.run_dir)
    config = read_config(run.config_file)
    audit = _audit_of(run, settings)
    data = _data_of(audit, config, settings)
    view = views_of(audit, data.name)[0]
    (scored,) = scored_pairs([audit], data.name, [view])
    _require_same_pairs(scored, data, audit)
    strata = _strata(settings.stratify, settings.unit, scored, view)
    keys = _keys(data, settings.unit)
    _require_room(settings, strata, keys)
    draw = draw_units(keys, strata.of_unit, settings.n // UNITS[settings.unit], settings.seed)
    rows = _rows(settings, data, scored, view, keys, strata, draw)
    columns = _columns(settings, scored.labels)
    with writing(settings.output, "start the command again"):
        write_gold_file(settings.output, columns, rows)
    console = Console(width=100, highlight=False)
    console.print(_strata_table(strata, draw, settings.unit))
    for line in _lines(settings, audit, data, scored, view, rows):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _check(settings: Any) -> None:
    """Check what needs no file but the output."""
    if settings.output.suffix not in ENDINGS:
        raise InputError(f"--output {settings.output}", f"a name that ends in {' or '.join(ENDINGS)}", "--output")
    if settings.output.exists():
        raise InputError(
            f"{settings.output}, which is there already", "a new file: labels are never overwritten", "--output"
        )
    if settings.n < 1 or settings.n % UNITS[settings.unit]:
        needed = "an even number from 2: a pair is two responses" if settings.unit == "pair" else "a number from 1"
        raise InputError(f"--n {settings.n} with --unit {settings.unit}", needed, "--n, or --unit text")
    if settings.seed < 0:
        raise InputError(f"--seed {settings.seed}", "0 or more", "--seed")
    require_output(settings.output, "--output")


def _audit_of(run: RunDirectory, settings: Any) -> StoredAudit:
    """Find the newest audit of the checkpoint that is asked for."""
    audits = stored_audits(run)
    if not audits:
        raise InputError(f"no finished audit in {run.path}", "an audited run", f"imprint audit {run.path} first")
    if settings.checkpoint is None:
        # Only stored predictions are read: the checkpoint's own file may be gone.
        return best_audited(run, audits, "--checkpoint STEP")
    wanted = settings.checkpoint
    found = [audit for audit in audits if str(audit.step) == wanted]
    found = found or [audit for audit in audits if len(wanted) > 3 and audit.weights.startswith(wanted)]
    if len(found) != 1:
        known = ", ".join(f"step {audit.step} ({audit.weights[:8]})" for audit in audits)
        how = "no finished audit" if not found else f"{len(found)} finished audits"
        raise InputError(f"{how} of checkpoint {wanted} in {run.path}", f"one of {known}", "--checkpoint")
    return found[0]


def _data_of(audit: StoredAudit, config: Config, settings: Any) -> PreferenceData:
    """Read the data set as the run reads it, and require that it is what was audited."""
    named = [name for name in config.audit.datasets if _stem(name) == settings.dataset] or [settings.dataset]
    name = _stem(named[0])
    if name not in audit.datasets:
        found = f"no audit of {name} with checkpoint {audit.weights[:8]} (audited: {', '.join(audit.datasets)})"
        fix = f"--dataset, or imprint audit {audit.run.path} --datasets {named[0]}"
        raise InputError(found, "an audited data set", fix)
    root = settings.root if settings.root is not None else data_root(config.data)
    (data,) = read_audited_data(replace(config.audit, datasets=named[:1]), root)
    if data.digest != audit.datasets[name]["digest"]:
        found = f"another {name} than the one that {audit.folder} is of"
        needed = "the pairs that were audited"
        raise InputError(found, needed, f"restore the data, or imprint audit {audit.run.path} and draw again")
    return data


def _stem(name: str) -> str:
    """Name of a data set in tables: a file goes by its stem."""
    return Path(name).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def _require_same_pairs(scored: ScoredPairs, data: PreferenceData, audit: StoredAudit) -> None:
    if not np.array_equal(scored.pair_ids, data.index.pair_ids):
        path = audit.corpus_file(data.name)
        raise InputError(f"other pairs in {path} than in {data.name}", "the file as it was written", "restore it")


def _strata(stratify: Stratify, unit: Unit, scored: ScoredPairs, view: str) -> Strata:
    """Put every unit into a stratum; strata without a unit have no name."""
    decisions = scored.views[view].decisions
    match stratify:
        case "predicted":
            by_unit = decisions if unit == "pair" else decisions.reshape(-1, 1, len(scored.labels))
            names, of_unit = (*scored.labels, NONE), rarest_label(by_unit)
        case "subset":
            subsets, of_pair = np.unique(scored.subsets, return_inverse=True)
            names, of_unit = tuple(str(name) or "no subset" for name in subsets), _by_unit(of_pair, unit)
        case "none":
            names, of_unit = (EVERYTHING,), np.zeros(len(scored.pair_ids) * 2 // UNITS[unit], dtype=np.int64)
    present, of_unit = np.unique(of_unit, return_inverse=True)
    return Strata(tuple(names[k] for k in present), of_unit.astype(np.int64))


def _require_room(settings: Any, strata: Strata, keys: list[str]) -> None:
    """Raise InputError unless --n reaches every stratum and asks for no more than there is."""
    size, most = UNITS[settings.unit], len(keys) * UNITS[settings.unit]
    least = len(strata.names) * size
    if not least <= settings.n <= most:
        found = f"--n {settings.n:,} of {most:,} responses in {len(strata.names)} strata"
        needed = f"from {least:,} (one {settings.unit} of each, or weights would miss a part) to {most:,}"
        raise InputError(found, needed, "--n, or --stratify none" if settings.n < least else "--n")


def _by_unit(of_pair: np.ndarray, unit: Unit) -> np.ndarray:
    return of_pair if unit == "pair" else np.repeat(of_pair, 2)


def _keys(data: PreferenceData, unit: Unit) -> list[str]:
    """Name every unit, so that a draw does not depend on their order."""
    index = data.index
    if unit == "pair":
        return [f"{data.name}\0{pair_id}" for pair_id in index.pair_ids.tolist()]
    named = zip(np.repeat(index.pair_ids, 2).tolist(), index.sides.ravel().tolist(), strict=True)
    return [f"{data.name}\0{pair_id}\0{side}" for pair_id, side in named]


def _columns(settings: Any, labels: Sequence[str]) -> list[str]:
    """Columns of the file: what to read and to fill first, how it was drawn last."""
    if clashing := [label for label in labels if label in ("item_id", *DESIGN, *FREE)]:
        raise InputError(f"the label {clashing[0]}, which names a column of its own", "another slug", "--data.taxonomy")
    shown = [f"{label}{PREDICTED}" for label in labels] if settings.show_probabilities else []
    keys = ["pair_id", "side"] if settings.show_keys else []
    return ["item_id", "text", *labels, *shown, *DESIGN, *keys]


def _rows(
    settings: Any,
    data: PreferenceData,
    scored: ScoredPairs,
    view: str,
    keys: list[str],
    strata: Strata,
    draw: GoldDraw,
) -> list[dict[str, Any]]:
    """Make a row of every response drawn, in the order in which they are to be labelled."""
    n_responses = UNITS[settings.unit]
    codes = _codes(len(strata.names), settings.seed)
    order = shown_order([keys[unit] for unit in draw.units.tolist()], n_responses, settings.seed)
    view_name = view.split("-")[0]
    wanted = {int(unit) * n_responses // 2 for unit in draw.units}
    items = {pair: item for pair, item in enumerate(shown_items(data, view_name)) if pair in wanted}  # type: ignore[arg-type]
    rows = []
    for place, response in order:
        unit = int(draw.units[place])
        pair, side = (unit, response) if n_responses == 2 else divmod(unit, 2)
        ids, texts = items[pair]
        stratum = strata.of_unit[unit]
        probabilities = scored.views[view].probabilities[pair, side]
        rows.append(
            {
                "item_id": ids[side],
                "text": texts[side],
                "dataset": data.name,
                "view": view_name,
                "unit": settings.unit,
                "stratum": codes[stratum],
                "stratum_drawn": int(draw.drawn[stratum]),
                "stratum_size": int(draw.sizes[stratum]),
                "inclusion_probability": float(draw.probability[stratum]),
                "pair_id": str(data.index.pair_ids[pair]),
                "side": str(data.index.sides[pair, side]),
                **{
                    f"{label}{PREDICTED}": round(float(p), 3)
                    for label, p in zip(scored.labels, probabilities, strict=True)
                },
            }
        )
    return rows


def _codes(n: int, seed: int) -> list[str]:
    """Names of strata that tell nothing of what the classifier predicts."""
    return [f"s{k + 1}" for k in np.random.default_rng(seed).permutation(n)]


def _strata_table(strata: Strata, draw: GoldDraw, unit: Unit) -> Table:
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("stratum", f"{unit}s", "drawn", "probability"):
        shown.add_column(name, justify="left" if name == "stratum" else "right")
    for name, size, n, p in zip(strata.names, draw.sizes, draw.drawn, draw.probability, strict=True):
        shown.add_row(name, f"{size:,}", f"{n:,}", f"{p:.4g}")
    return shown


def _lines(
    settings: Any, audit: StoredAudit, data: PreferenceData, scored: ScoredPairs, view: str, rows: list[dict[str, Any]]
) -> list[str]:
    """Say what was drawn, what a labeller should know of it, and what comes next."""
    place = {pair_id: k for k, pair_id in enumerate(data.index.pair_ids.tolist())}
    at = [(place[row["pair_id"]], int(row["side"] in ("rejected", "b"))) for row in rows]
    predicted = f"by what checkpoint {audit.weights[:8]} (step {audit.step}) predicts"
    how = {"predicted": predicted, "subset": "by subset", "none": "without strata"}[settings.stratify]
    lines = [f"{len(rows):,} responses of {data.name} written to {settings.output}, drawn {how}"]
    if n_cut := sum(bool(scored.views[view].truncated[pair, side]) for pair, side in at):
        lines.append(f"  {n_cut:,} are cut when the classifier reads them; they are shown, and to be labelled, whole")
    if scored.trained_on is not None and (n_seen := sum(bool(scored.trained_on[pair]) for pair, _ in at)):
        lines.append(f"  {n_seen:,} are of pairs that it was trained on, which corrected rows leave out")
    n_long = sum(len(row["text"]) > LONGEST_CELL for row in rows)
    if settings.output.suffix == ".csv" and n_long:
        lines.append(
            f"  warning: {n_long:,} are longer than {LONGEST_CELL:,} characters, which spreadsheets cut: use .jsonl"
        )
    if data.is_sample:
        lines.append(SAMPLE_NOTE)
    filled = ["Fill every label column of a row with 1 or 0; leave a row blank that you do not label."]
    if settings.unit == "pair":
        filled.append(
            f"A pair counts when both its responses are labelled; they stand within {2 * BLOCK + 1} rows of each other."
        )
    return [*lines, *filled, "Then:", f"  imprint audit {audit.run.path} --gold {settings.output}"]
