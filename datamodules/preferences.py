"""Which preference pairs are in a data set?

Names: `hh-rlhf`, `webgpt` and `alpaca-gpt4` under a data root, the embedded samples `sample-hh-rlhf`, `sample-webgpt`
and `sample-alpaca-gpt4`, or a path to a .jsonl file. Rows that state no pair are left out and counted by reason; every
other pair is kept, however unusual, and what is unusual is counted.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from datamodules.dialogue import DialogueError
from datamodules.errors import InputError
from datamodules.files import digest_of, file_digest, read_json_array, read_json_lines
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
from datamodules.preference_pairs import PreferencePair, PreferenceReport, cluster_of, report_on

__all__ = ["PreferenceData", "PreferencePair", "PreferenceReport", "cluster_of", "read_preferences"]

SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
SAMPLES = Path(__file__).parent / "samples"
SAMPLE_NAMES = ("sample-hh-rlhf", "sample-webgpt", "sample-alpaca-gpt4")
ALL_LAYOUTS = (PROMPTED, DIALOGUES, WEBGPT, SCORED_TEXTS, GPT4_LLM, BETTER_WORSE)
ROOT_FIX = "set --data.root or IMPRINT_DATA to the folder that holds the data sets"
FILE_FIX = f"mend the file, or {ROOT_FIX}"
NAME_FIX = "mend the file, or name other preference data"


@dataclass(frozen=True, slots=True)
class PreferenceData:
    """The pairs of one data set, in file order.

    `digest` is a sha256 of the content (ids, subsets, canonical texts, ties), so it does not depend on the layout of
    the file. `is_sample` marks the embedded samples, which are for learning the tool and not for conclusions.
    """

    name: str
    pairs: tuple[PreferencePair, ...]
    report: PreferenceReport
    digest: str
    is_sample: bool


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


def read_preferences(name: str, root: Path | None, *, split: str = "test", all_pairs: bool = False) -> PreferenceData:
    """Read one preference data set.

    Args:
        name: A known name (see the module's text) or a path to a .jsonl, .jsonl.gz or .json file, whose stem is then
            the name.
        root: The data root; only the three published data sets need it.
        split: `train` or `test`, for hh-rlhf, the one data set that ships both.
        all_pairs: From GPT-4-LLM rows take every response with every lower-scored one, not only best with worst.

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
    return _read(name, sources, all_pairs)


def _require_root(name: str, root: Path | None) -> Path:
    if root is not None and root.is_dir():
        return root
    found = f"no data root, which {name} needs" if root is None else f"no folder at {root}, the data root"
    raise InputError(found, f"a folder that holds {name}/", ROOT_FIX)


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


def _read(name: str, sources: list[_Source], all_pairs: bool) -> PreferenceData:
    pairs: list[PreferencePair] = []
    unparsable: Counter[str] = Counter()
    n_read: Counter[str] = Counter()
    for source in sources:
        for row in _rows(source):
            row_id = f"{source.id_prefix}-{n_read[source.id_prefix]}"
            n_read[source.id_prefix] += 1
            try:
                pairs += _pairs_of(row, source, row_id, all_pairs)
            except (DialogueError, RowError) as error:
                unparsable[error.reason] += 1
    reasons = dict(sorted(unparsable.items()))
    _require_usable(pairs, sources, reasons)
    files = {source.label: file_digest(source.path) for source in sources}
    report = report_on(pairs, files=files, n_read=n_read.total(), unparsable=reasons)
    content = [[p.pair_id, p.subset, p.first.render(), p.second.render(), p.is_tie] for p in pairs]
    is_sample = all(source.path.parent == SAMPLES for source in sources)
    return PreferenceData(name, tuple(pairs), report, digest_of(content), is_sample)


def _rows(source: _Source) -> list[Row]:
    """Read the rows of one file, of which at least one must be in a layout that is accepted there."""
    read = read_json_array if source.path.suffix == ".json" else read_json_lines
    rows = read(source.path, source.fix)
    if not rows:
        raise InputError(f"no rows in {source.path}", "at least one pair", source.fix)
    if all(_layout_of(row, source) is None for row in rows):
        found = ", ".join(sorted({field for row in rows for field in row})) or "none"
        needed = "; or ".join(", ".join(layout.needed) for layout in source.layouts)
        raise InputError(f"the fields {found} in {source.path}", f"the fields {needed}", source.fix)
    return rows


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
            return str(number)
        case str() as text:
            return string_of(text).strip()
        case _:
            raise RowError(f"{field.replace('_', '-')}-not-a-label")


def _require_usable(pairs: list[PreferencePair], sources: list[_Source], reasons: dict[str, int]) -> None:
    """Raise InputError where no pair is left or two pairs have one id."""
    where = ", ".join(str(source.path) for source in sources)
    if not pairs:
        said = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
        found = f"no usable pair in {where} (rows left out: {said})"
        raise InputError(found, "at least one pair of dialogues that end with an assistant turn", sources[0].fix)
    repeated = [pair_id for pair_id, n in Counter(pair.pair_id for pair in pairs).items() if n > 1]
    if repeated:
        found = f"{len(repeated)} pair ids that occur more than once in {where}, such as {repeated[0]!r}"
        raise InputError(found, "a different pair_id in every row", f"mend the field pair_id or drop it, or {NAME_FIX}")
