"""`imprint data fetch`: how does a published data set come into the data root, and as which revision?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests
from rich.console import Console
from rich.table import Column, Table

from datamodules.download import ROOT_FIX, Arrived, Expected, check_file, content_instead, download
from datamodules.errors import InputError
from datamodules.source_hosts import BASES, TITLES, file_address, list_files, locate
from datamodules.sources import SOURCES, Source, SourceFile, Split, files_of_split, source_named
from datamodules.sources_lock import LOCK_NAME, LockedFile, LockedSource, change_lock, read_lock
from datamodules.web import Patience, Web, WebError
from experiments.parsing import command_parser
from train.config import DataConfig
from train.inputs import data_root
from train.progress import Progress

PATIENCE = Patience()
DESCRIPTION = f"""Download a published data set into the data root and verify it; without a name, list what can be
fetched. The first fetch writes revision and sha256 of every file to {LOCK_NAME} in the data root; later ones hold to
it. What is there is not downloaded again, what broke off is continued. A file brought by hand is verified like any
other, or taken as it is where nobody states its digest. Environment: HTTPS_PROXY, HTTP_PROXY, NO_PROXY; mirrors in
{", ".join(BASES)}; tokens in HF_TOKEN (for the hub or HF_ENDPOINT) and GITHUB_TOKEN (for GitHub only)."""
UPDATE = "take what upstream has now with --update"
UNKNOWN = "nobody states what it should be"


@dataclass(frozen=True, slots=True)
class Item:
    """One file that is wanted: its source, its place upstream and on disk, and what it must be."""

    file: SourceFile
    upstream: str
    target: Path
    expected: Expected


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be there: a revision and its files, with what the lock held before."""

    source: Source
    root: Path
    revision: str
    items: tuple[Item, ...]
    before: LockedSource | None
    is_update: bool


def run_fetch(arguments: Sequence[str], console: Console) -> int:
    """Run `imprint data fetch`; see `imprint data fetch --help`."""
    parser = command_parser("data fetch", DESCRIPTION)
    parser.add_argument("name", type=str | None, nargs="?", default=None, help=f"One of {', '.join(SOURCES)}")
    parser.add_argument("--root", type=Path | None, default=None, help="Data root; IMPRINT_DATA when left out")
    parser.add_argument("--split", type=Split, default="all", help="Part to fetch, where a data set ships splits")
    parser.add_argument("--update", action="store_true", help="Take what upstream has now, and lock that")
    settings = parser.parse_args(list(arguments))
    root = data_root(DataConfig(root=settings.root))
    if settings.name is None:
        _print_sources(root, console)
        return 0
    source = source_named(settings.name)
    files = files_of_split(source, settings.split)
    if root is None:
        raise InputError("no data root", "a folder for the data", "--root DIR, or set IMPRINT_DATA")
    progress = Progress()
    try:
        with requests.Session() as session:
            _fetch(source, files, root, settings["update"], Web(session, PATIENCE, progress.say), progress, console)
    except KeyboardInterrupt:
        progress.say("What has arrived is kept in .part files; fetching again goes on from there.")
        raise
    return 0


def _print_sources(root: Path | None, console: Console) -> None:
    table = Table("name", Column("from", overflow="fold"), "licence", "files there")
    for source in SOURCES.values():
        there = sum(root is not None and (root / file.path).is_file() for file in source.files)
        origin = origin_of(source)
        table.add_row(source.name, origin, source.licence or "none stated", f"{there} of {len(source.files)}")
    console.print(table)
    console.print("Fetch one with: imprint data fetch NAME --root DIR", markup=False)


def origin_of(source: Source) -> str:
    """Return where a data set comes from, in words."""
    return f"{source.repository}, {TITLES[source.host]}"


def _fetch(
    source: Source,
    files: tuple[SourceFile, ...],
    root: Path,
    is_update: bool,
    web: Web,
    progress: Progress,
    console: Console,
) -> None:
    try:
        plan = _plan(source, files, root, is_update, web)
        there = {item.file.path: _verify_present(item, plan) for item in plan.items}
        at = f", revision {plan.revision}" if plan.revision else ""
        console.print(f"{source.name}: {origin_of(source)}{at}", markup=False, soft_wrap=True)
        done: dict[str, LockedFile] = {}
        for item in plan.items:
            arrived = there[item.file.path] or _arrive(item, plan, web, progress)
            done[item.file.path] = LockedFile(item.upstream, arrived.sha256, arrived.size)
            # An update changes the revision of all files at once: half of it must not look like all.
            if not is_update or len(done) == len(plan.items):
                change_lock(root, source.name, partial(_merged, plan, done))
            what = "downloaded" if there[item.file.path] is None else "was there"
            if what == "was there" and not item.expected.digest:
                what += f"; {UNKNOWN}: taken as it is, and held to from now on"
            line = f"  {item.file.path}  {arrived.size:,} bytes  sha256 {arrived.sha256}  {what}"
            console.print(line, markup=False, soft_wrap=True)
    except WebError as error:
        absent = [file for file in files if not (root / file.path).is_file()]
        places = ", ".join(f"{file.upstream} to {root / file.path}" for file in absent)
        by_hand = f"; or copy by hand, from {origin_of(source)}: {places}" if absent else ""
        raise InputError(error.found, error.needed, f"{error.fix}{by_hand}") from error
    except OSError as error:
        found = f"{error.filename2 or error.filename or root} ({error.strerror or type(error).__name__})"
        raise InputError(found, "files that can be read and written", f"mend that, or {ROOT_FIX}") from error
    _print_terms(source, console)


def _plan(source: Source, files: tuple[SourceFile, ...], root: Path, is_update: bool, web: Web) -> Plan:
    """Find the revision and what each file must be: from the lock, else from the source, else from the host."""
    before = read_lock(root).get(source.name)
    locked = before if not is_update else None
    if locked is not None and _is_stale(locked, source):
        raise InputError(
            f"{locked.repository} {locked.revision} for {source.name} in {root / LOCK_NAME}",
            f"{source.repository} {source.revision}",
            "take that with --update",
        )
    if is_update and before is not None:
        files = tuple(file for file in source.files if file in files or file.path in before.files)
    revision = locked.revision if locked is not None else source.revision
    known = [_known(file, locked, root) for file in files]
    # A digest that is known beforehand belongs to a revision that is known, too.
    if all(expected is not None for _, expected in known):
        listing = None
    else:
        answer = list_files(source, revision, web)
        if locked is not None and answer.revision != revision:
            found = f"revision {answer.revision!r} where {root / LOCK_NAME} states {revision!r}"
            raise InputError(found, "one revision for all files of a data set", UPDATE)
        revision, listing = answer.revision, answer.files
    items = []
    for file, (upstream, expected) in zip(files, known, strict=True):
        if expected is None and listing is not None:
            upstream = locate(listing, file.upstream, source)
            expected = listing[upstream]
        items.append(Item(file, upstream, root / file.path, expected or Expected()))
    return Plan(source, root, revision, tuple(items), before, is_update)


def _is_stale(locked: LockedSource, source: Source) -> bool:
    other_revision = source.is_pinned and locked.revision != source.revision
    return locked.repository != source.repository or other_revision


def _known(file: SourceFile, locked: LockedSource | None, root: Path) -> tuple[str, Expected | None]:
    """Return a file's place upstream and what it must be, where the lock or the source says so."""
    if locked is not None and file.path in locked.files:
        entry = locked.files[file.path]
        return entry.upstream, Expected(entry.size, f"sha256:{entry.sha256}", str(root / LOCK_NAME), UPDATE)
    if file.digest:
        return file.upstream, Expected(None, file.digest, "imprint")
    return file.upstream, None


def _verify_present(item: Item, plan: Plan) -> Arrived | None:
    """Return the file that is there; None where it is to be downloaded.

    Raises:
        InputError: Another file has its place, which fetch did not put there.
    """
    if not item.target.exists():
        return None
    if not item.target.is_file():
        raise InputError(f"a folder at {item.target}", "a place for a file", "move it away")
    checked = _check_present(item, plan)
    if isinstance(checked, Arrived):
        return checked
    if plan.is_update and _is_as_locked(item, plan.before):
        return None
    fix = "move it away, then fetch again"
    if item.expected.remedy:
        fix += f", or {item.expected.remedy}"
    if checked == UNKNOWN and (plan.before is None or item.file.path not in plan.before.files):
        fix += ", or leave out --update, which takes it as it is"
    raise InputError(f"{item.target}: {checked}", "the file that fetch downloads", fix)


def _check_present(item: Item, plan: Plan) -> Arrived | str:
    """Return a file's sha256 and size, or what speaks against it, in words."""
    if item.expected.digest:
        return check_file(item.target, item.expected)
    # An update asks for what upstream has now, and nothing says that this is it.
    if plan.is_update:
        return UNKNOWN
    instead = content_instead(item.target)
    return f"{instead} in place of the data" if instead else check_file(item.target, item.expected)


def _is_as_locked(item: Item, before: LockedSource | None) -> bool:
    """Tell whether an earlier fetch put the file there and nobody changed it since; reads it whole."""
    entry = before.files.get(item.file.path) if before is not None else None
    if entry is None:
        return False
    return isinstance(check_file(item.target, Expected(entry.size, f"sha256:{entry.sha256}")), Arrived)


def _arrive(item: Item, plan: Plan, web: Web, progress: Progress) -> Arrived:
    if item.upstream != item.file.upstream:
        progress.say(f"  {item.file.upstream} lies at {item.upstream} now")
    address = file_address(plan.source, plan.revision, item.upstream)
    return download(address, item.target, item.expected, web, progress.bar)


def _merged(plan: Plan, done: dict[str, LockedFile], current: LockedSource | None) -> LockedSource:
    """Return what the lock is to hold, given what it holds now: another fetch may have written it meanwhile.

    Raises:
        InputError: That one fetched another revision, or another content of the same file.
    """
    name, revision = plan.source.name, plan.revision
    if current is None or (plan.is_update and current == plan.before):
        return LockedSource(plan.source.repository, revision, done)
    differing = [path for path, file in done.items() if current.files.get(path, file) != file]
    is_same_revision = (current.repository, current.revision) == (plan.source.repository, revision)
    if differing or not is_same_revision:
        what = f"with another {differing[0]}" if is_same_revision else f"at {current.revision}, here {revision}"
        raise InputError(
            f"that another fetch wrote {plan.root / LOCK_NAME} meanwhile: {name} {what}",
            "one revision for all files of a data set",
            f"fetch again{' with --update' if plan.is_update else ''}, one at a time",
        )
    return LockedSource(current.repository, revision, {**current.files, **done})


def _print_terms(source: Source, console: Console) -> None:
    licence = f"Licence: {source.licence}." if source.licence else "Licence: none stated."
    console.print(f"{licence} {source.terms}".strip(), markup=False, soft_wrap=True)
    console.print(f"Cite: {source.citation}", markup=False, soft_wrap=True)
