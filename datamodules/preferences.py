"""Which preference pairs are in a data set? Texts are read from the files each time they are needed, never all held.

Names: `hh-rlhf`, `webgpt` and `alpaca-gpt4` under a data root, the embedded samples `sample-hh-rlhf`, `sample-webgpt`
and `sample-alpaca-gpt4`, or a path to a .jsonl file. Rows that state no pair are left out and counted by reason; every
other pair is kept, however unusual, and what is unusual is counted.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.dialogue import DialogueError
from datamodules.errors import InputError
from datamodules.files import file_digest
from datamodules.json_rows import iter_json_array, iter_json_lines
from datamodules.parts import ALL, Part
from datamodules.preference_data import ContentDigest, PairIndex, PreferenceData
from datamodules.preference_layouts import (
    BETTER_WORSE,
    DIALOGUES,
    GPT4_LLM,
    PROMPTED,
    SCORED_TEXTS,
    WEBGPT,
    Layout,
    Row,
    RowError,
    string_of,
)
from datamodules.preference_pairs import PreferencePair, PreferenceReport, ReportBuilder, cluster_of
from datamodules.tabular import some_of

__all__ = ["PreferenceData", "PreferencePair", "PreferenceReport", "cluster_of", "read_preferences"]

SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
SAMPLES = Path(__file__).parent / "samples"
SAMPLE_NAMES = ("sample-hh-rlhf", "sample-webgpt", "sample-alpaca-gpt4")
ALL_LAYOUTS = (PROMPTED, DIALOGUES, WEBGPT, SCORED_TEXTS, GPT4_LLM, BETTER_WORSE)
ROOT_FIX = "set --data.root or IMPRINT_DATA to the folder that holds the data sets"
FILE_FIX = f"mend the file, or {ROOT_FIX}"
NAME_FIX = "mend the file, or name other preference data"
MOST_FIELDS_TOLD = 20
# Labels are kept in arrays, whose every cell is as wide as the widest.
LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True)
class _Source:
    """One file and what its place says about its rows.

    `label` names the file in the report, `fix` says what mends it, `layouts` are the accepted ones in order of
    preference, and `id_prefix` starts the ids of rows that bring none.
    """

    path: Path
    label: str
    fix: str
    layouts: tuple[Layout, ...]
    id_prefix: str
    subset: str = ""


def read_preferences(
    name: str, root: Path | None, *, split: str = "test", all_pairs: bool = False, part: Part = ALL
) -> PreferenceData:
    """Read one preference data set.

    Args:
        name: A known name (see the module's text) or a path to a .jsonl, .jsonl.gz or .json file, whose stem is then
            the name.
        root: The data root; only the three published data sets need it.
        split: `train` or `test`, for hh-rlhf, the one data set that ships both.
        all_pairs: From GPT-4-LLM rows take every response with every lower-scored one, not only best with worst.
        part: Part of the pairs to keep, whole clusters; ids do not depend on it.

    Raises:
        InputError: Unknown name, missing root or file, a file that cannot be read, rows in no known layout, ids that
            occur twice, or no usable pair.
    """
    match name:
        case "hh-rlhf":
            sources = _hh_rlhf(_require_root(name, root), split)
        case "webgpt":
            patterns = ("webgpt/*.jsonl", "webgpt/webgpt.test.json")
            sources = _first_found(name, _require_root(name, root), patterns, (WEBGPT, SCORED_TEXTS))
        case "alpaca-gpt4":
            patterns = ("alpaca-gpt4/comparison_data_v2.json", "alpaca-gpt4/comparison_gpt4_data_en.json")
            sources = _first_found(name, _require_root(name, root), patterns, (GPT4_LLM, BETTER_WORSE))
        case "sample-hh-rlhf":
            sources = [_sample(name, ".jsonl", DIALOGUES)]
        case "sample-webgpt":
            sources = [_sample(name, ".jsonl", WEBGPT)]
        case "sample-alpaca-gpt4":
            sources = [_sample(name, ".json", GPT4_LLM)]
        case _ if name.endswith((".json", ".jsonl", ".jsonl.gz")):
            path = Path(name)
            name = path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
            sources = [_Source(path, path.name, NAME_FIX, ALL_LAYOUTS, name)]
        case _:
            needed = "hh-rlhf, webgpt or alpaca-gpt4, one of these after sample-, or a path to a .jsonl or .json file"
            raise InputError(f"preference data {name!r}", needed, "name one of these data sets")
    return _read(name, sources, all_pairs, part)


def _require_root(name: str, root: Path | None) -> Path:
    if root is not None and root.is_dir():
        return root
    found = f"no data root, which {name} needs" if root is None else f"no folder at {root}, the data root"
    raise InputError(found, f"a folder that holds {name}/", f"{ROOT_FIX}; imprint data fetch {name} --root DIR gets it")


def _hh_rlhf(root: Path, split: str) -> list[_Source]:
    """Every subset under the root that has the split; ids from splits other than test carry the split's name."""
    sources = []
    for subset in SUBSETS:
        prefix = subset if split == "test" else f"{subset}-{split}"
        labels = [f"hh-rlhf/{subset}/{split}{ending}" for ending in (".jsonl.gz", ".jsonl")]
        present = [label for label in labels if (root / label).is_file()]
        sources += [_Source(root / label, label, FILE_FIX, (DIALOGUES,), prefix, subset) for label in present[:1]]
    if not sources:
        needed = f"{root}/hh-rlhf/SUBSET/{split}.jsonl.gz (or .jsonl) for a SUBSET of {', '.join(SUBSETS)}"
        raise InputError(f"no hh-rlhf file of the split {split!r}", needed, ROOT_FIX)
    return sources


def _first_found(name: str, root: Path, patterns: tuple[str, ...], layouts: tuple[Layout, ...]) -> list[_Source]:
    """Files of the first pattern that has any: upstream's own files go before copies, which are selections of them."""
    for pattern in patterns:
        paths = sorted(path for path in root.glob(pattern) if path.is_file())
        if paths:
            return [_Source(path, path.relative_to(root).as_posix(), FILE_FIX, layouts, name) for path in paths]
    raise InputError(f"no file of {name}", " or ".join(f"{root}/{pattern}" for pattern in patterns), ROOT_FIX)


def _sample(name: str, ending: str, layout: Layout) -> _Source:
    return _Source(SAMPLES / f"{name}{ending}", f"{name}{ending}", NAME_FIX, (layout,), name)


def _read(name: str, sources: list[_Source], all_pairs: bool, part: Part) -> PreferenceData:
    n_read: Counter[str] = Counter()
    unparsable: Counter[str] = Counter()
    builder, digest = ReportBuilder(), ContentDigest()
    pair_ids, subsets, cluster_ids, ties = [], [], [], []
    n_other_part = 0
    for pair in _iter_pairs(sources, all_pairs, n_read, unparsable):
        if not part.holds(pair.cluster_id):
            n_other_part += 1
            continue
        builder.add(pair)
        digest.add(pair)
        pair_ids.append(pair.pair_id)
        subsets.append(pair.subset)
        cluster_ids.append(pair.cluster_id)
        ties.append(pair.is_tie)
    reasons = dict(sorted(unparsable.items()))
    index = PairIndex(np.array(pair_ids), np.array(subsets), np.array(cluster_ids), np.array(ties, dtype=np.bool_))
    _require_usable(index, sources, reasons, n_other_part)
    files = {source.label: file_digest(source.path) for source in sources}
    report = builder.report(files=files, n_read=n_read.total(), unparsable=reasons, n_other_part=n_other_part)
    is_sample = all(source.path.parent == SAMPLES for source in sources)

    def read() -> Iterator[PreferencePair]:
        pairs = _iter_pairs(sources, all_pairs, Counter(), Counter())
        return (pair for pair in pairs if part.holds(pair.cluster_id))

    return PreferenceData(name, index, report, digest.hexdigest(), is_sample, read)


def _iter_pairs(
    sources: list[_Source], all_pairs: bool, n_read: Counter[str], unparsable: Counter[str]
) -> Iterator[PreferencePair]:
    """Yield the pairs of all files in order.

    Args:
        sources: The files.
        all_pairs: See `read_preferences`.
        n_read: Gets the rows read per id prefix; rows of files with one prefix are numbered on.
        unparsable: Gets the rows left out per reason.
    """
    for source in sources:
        for row in _iter_rows(source):
            row_id = f"{source.id_prefix}-{n_read[source.id_prefix]}"
            n_read[source.id_prefix] += 1
            try:
                yield from _pairs_of(row, source, row_id, all_pairs)
            except (DialogueError, RowError) as error:
                unparsable[error.reason] += 1


def _iter_rows(source: _Source) -> Iterator[Row]:
    """Yield the rows of one file, of which at least one must be in a layout that is accepted there."""
    iter_rows = iter_json_array if source.path.suffix == ".json" else iter_json_lines
    known, fields, n = False, dict[str, None](), 0
    for row in iter_rows(source.path, source.fix):
        n += 1
        known = known or _layout_of(row, source) is not None
        if not known and len(fields) < MOST_FIELDS_TOLD:
            fields |= dict.fromkeys(row)
        yield row
    if n == 0:
        raise InputError(f"no rows in {source.path}", "at least one pair", source.fix)
    if not known:
        needed = "; or ".join(", ".join(layout.needed) for layout in source.layouts)
        found = f"{n} rows with the fields {some_of(sorted(fields))} in {source.path}"
        raise InputError(found, f"the fields {needed}", source.fix)


def _layout_of(row: Row, source: _Source) -> Layout | None:
    return next((layout for layout in source.layouts if all(field in row for field in layout.needed)), None)


def _pairs_of(row: Row, source: _Source, row_id: str, all_pairs: bool) -> list[PreferencePair]:
    """Turn one row into pairs; the row's own `pair_id`, `subset` and `group` go before what its place says."""
    layout = _layout_of(row, source)
    if layout is None:
        raise RowError("missing-field")
    pair_id = _label(row, "pair_id") or row_id
    subset = _label(row, "subset") or source.subset
    group = _label(row, "group")
    return [
        PreferencePair(
            pair_id=f"{pair_id}{comparison.suffix}",
            subset=subset,
            first=comparison.first,
            second=comparison.second,
            is_tie=comparison.is_tie,
            cluster_id=group or cluster_of(comparison.first),
        )
        for comparison in layout.parse(row, all_pairs)
    ]


def _label(row: Row, field: str) -> str:
    """Return an optional text or whole-number cell as text; empty where it is absent or null."""
    match row.get(field):
        case None:
            return ""
        case int() as number if not isinstance(number, bool):
            label = str(number)
        case str() as text:
            label = string_of(text).strip()
        case _:
            raise RowError(f"{field.replace('_', '-')}-not-a-label")
    if len(label) > LONGEST_LABEL:
        raise RowError(f"{field.replace('_', '-')}-above-{LONGEST_LABEL}-characters")
    return label


def _require_usable(index: PairIndex, sources: list[_Source], reasons: dict[str, int], n_other_part: int) -> None:
    """Raise InputError where no pair is left or two pairs have one id."""
    where = ", ".join(str(source.path) for source in sources)
    if not len(index) and n_other_part:
        found = f"{n_other_part} pairs in {where}, all of them in the other part"
        raise InputError(found, "pairs in both parts", "another held_out_fraction, or part all")
    if not len(index):
        said = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
        found = f"no usable pair in {where} (rows left out: {said})"
        raise InputError(found, "at least one pair of dialogues that end with an assistant turn", sources[0].fix)
    pair_ids, counts = np.unique(index.pair_ids, return_counts=True)
    repeated = pair_ids[counts > 1]
    if len(repeated):
        found = f"{len(repeated)} pair ids that occur more than once in {where}, such as {str(repeated[0])!r}"
        raise InputError(found, "a different pair_id in every row", f"mend the field pair_id or drop it, or {NAME_FIX}")
