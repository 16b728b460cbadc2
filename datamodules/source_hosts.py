"""At which address does a host keep a file, and what does it say of the files of a revision?

Base addresses can be replaced by mirrors, which serve the same paths: `HF_ENDPOINT` (the hub's own convention),
`IMPRINT_GITHUB_MIRROR` (in place of https://raw.githubusercontent.com), `IMPRINT_GITHUB_API` (https://api.github.com),
`IMPRINT_ZENODO_MIRROR` and `IMPRINT_OPENAI_MIRROR`. `HF_TOKEN` goes where the hub is asked, `GITHUB_TOKEN` to GitHub's
own servers and never to a mirror of them.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from datamodules.download import Expected
from datamodules.files import is_unicode
from datamodules.sources import Source
from datamodules.web import Address, Web, WebError, body, opened, persistently

BASES = {
    "HF_ENDPOINT": "https://huggingface.co",
    "IMPRINT_GITHUB_MIRROR": "https://raw.githubusercontent.com",
    "IMPRINT_GITHUB_API": "https://api.github.com",
    "IMPRINT_ZENODO_MIRROR": "https://zenodo.org",
    "IMPRINT_OPENAI_MIRROR": "https://openaipublic.blob.core.windows.net",
}
TITLES = {"hub": "the Hugging Face hub", "github": "GitHub", "zenodo": "Zenodo", "openai": "OpenAI's public storage"}
LISTING_LIMIT = 1 << 26


@dataclass(frozen=True, slots=True)
class Listing:
    """What a host says of a revision.

    Attributes:
        revision: The commit, or the record's number; empty where a host keeps one version.
        files: Upstream path -> size and digest; None where the host gives no list.
    """

    revision: str
    files: dict[str, Expected] | None


def file_address(source: Source, revision: str, upstream: str) -> Address:
    """Return where a file lies at a revision."""
    path = quote(upstream)
    match source.host:
        case "hub":
            return _address("HF_ENDPOINT", f"datasets/{source.repository}/resolve/{quote(revision, safe='')}/{path}")
        case "github":
            return _address("IMPRINT_GITHUB_MIRROR", f"{source.repository}/{revision}/{path}")
        case "zenodo":
            return _address("IMPRINT_ZENODO_MIRROR", f"api/records/{revision}/files/{path}/content")
        case "openai":
            return _address("IMPRINT_OPENAI_MIRROR", f"{source.repository}/{path}")


def list_files(source: Source, revision: str, web: Web) -> Listing:
    """Ask a host which commit a revision is, and for sizes and digests of the files at that commit.

    Raises:
        WebError: The host cannot be reached, refuses, or answers something else.
    """
    match source.host:
        case "hub":
            path = f"api/datasets/{source.repository}/revision/{quote(revision, safe='')}?blobs=true"
            return _listing(_address("HF_ENDPOINT", path), web, _hub_listing)
        case "github":
            commit_at = _address("IMPRINT_GITHUB_API", f"repos/{source.repository}/commits/{quote(revision)}")
            commit = _commit(_ask(commit_at, web, "application/vnd.github.sha").strip(), commit_at)
            tree_at = _address("IMPRINT_GITHUB_API", f"repos/{source.repository}/git/trees/{commit}?recursive=1")
            return _listing(tree_at, web, lambda answer: Listing(commit, _github_files(answer)))
        case "zenodo":
            address = _address("IMPRINT_ZENODO_MIRROR", f"api/records/{revision}")
            return _listing(address, web, lambda answer: Listing(revision, _zenodo_files(answer)))
        case "openai":
            return Listing("", None)


def locate(files: dict[str, Expected], upstream: str, source: Source) -> str:
    """Return where a file lies in a listing: at its path or, moved since, the one place with a file of its name.

    Raises:
        WebError: No such file, or several of its name.
    """
    if upstream in files:
        return upstream
    name = PurePosixPath(upstream).name
    moved = sorted(path for path in files if PurePosixPath(path).name == name)
    if len(moved) == 1:
        return moved[0]
    found = f"no {upstream} in {source.repository}" + (f", but {', '.join(moved)}" if moved else "")
    raise WebError(found, "that file", "look where upstream keeps it now")


def _address(variable: str, path: str) -> Address:
    base = os.environ.get(variable, "").strip().rstrip("/") or BASES[variable]
    token_variable = _token_variable(variable, base)
    token = os.environ.get(token_variable, "").strip() if token_variable else ""
    return Address(f"{base}/{path}", variable, token_variable, token)


def _token_variable(variable: str, base: str) -> str:
    if variable == "HF_ENDPOINT":
        return "HF_TOKEN"
    # Build machines set GITHUB_TOKEN by themselves: nobody meant a mirror to have it.
    return "GITHUB_TOKEN" if "GITHUB" in variable and base == BASES[variable] else ""


def _ask(address: Address, web: Web, accept: str) -> str:
    """Return a short text that a server answers."""

    def attempt() -> bytes:
        with opened(address, web, {"Accept": accept}) as response:
            content = bytearray()
            for piece in body(response, web):
                content += piece
                if len(content) > LISTING_LIMIT:
                    raise _no_listing(address)
            return bytes(content)

    try:
        return persistently(attempt, address, web).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _no_listing(address) from error


def _listing(address: Address, web: Web, read: Callable[[Any], Listing]) -> Listing:
    try:
        listing = read(json.loads(_ask(address, web, "application/json")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_listing(address) from error
    if not all(is_unicode(text) for text in (listing.revision, *(listing.files or ()))):
        raise _no_listing(address)
    return listing


def _no_listing(address: Address) -> WebError:
    return WebError(
        f"no listing of files at {address.place}, but something else",
        f"the answer of {BASES[address.mirror_variable]}",
        f"check {address.mirror_variable} and the proxy",
    )


def _commit(text: str, address: Address) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise _no_listing(address)
    return text


def _hub_listing(answer: Any) -> Listing:
    files = {}
    for entry in answer["siblings"]:
        stored = entry.get("lfs")
        digest = f"sha256:{stored['sha256']}" if stored else f"git-sha1:{entry['blobId']}"
        files[str(entry["rfilename"])] = Expected(int(entry["size"]), digest, "the hub")
    return Listing(str(answer["sha"]), files)


def _github_files(answer: Any) -> dict[str, Expected]:
    return {
        str(entry["path"]): Expected(int(entry["size"]), f"git-sha1:{entry['sha']}", "GitHub")
        for entry in answer["tree"]
        if entry["type"] == "blob"
    }


def _zenodo_files(answer: Any) -> dict[str, Expected]:
    return {
        str(entry["key"]): Expected(int(entry["size"]), f"md5:{entry['checksum'].removeprefix('md5:')}", "Zenodo")
        for entry in answer["files"]
    }
