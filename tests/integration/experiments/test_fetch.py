"""`imprint data fetch` against a server on this machine that behaves well, badly and worse."""

import fcntl
import gzip
import hashlib
import json
import os
import random
import re
import signal
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import ENOLCK, ENOSPC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests

import datamodules.download
import experiments.fetch_command
from datamodules.annotations import read_annotations
from datamodules.download import Expected, download
from datamodules.errors import InputError
from datamodules.preferences import read_preferences
from datamodules.sources import SOURCES
from datamodules.taxonomy import load_taxonomy
from datamodules.web import Address, Patience, Web, WebError
from experiments.cli import main

DATA = random.Random(1).randbytes(300_000)
HALF = len(DATA) // 2
OLD, NEW = "a" * 40, "b" * 40
HALF_A_CHARACTER = rb'{"tree": [{"path": "\ud800/trustworthy_data.jsonl", "type": "blob", "sha": "0", "size": 1}]}'
QUICK = Patience(attempts=3, connections=2, first_wait=0.01, longest_wait=60.0, connect=2.0, stall=0.2)
Answer = Callable[["Handler", bytes], None]


def etag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Site:
    """A server: `files` by path, `scripts` with the next answers of a path, `asked` with what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.scripts: dict[str, list[Answer]] = defaultdict(list)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.over = threading.Event()
        handler = type("SiteHandler", (Handler,), {"site": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def sent(self, name: str) -> list[str | None]:
        """A header of every request."""
        return [headers.get(name) for _, headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.site.asked.append((path, dict(self.headers)))
        script = self.site.scripts[path]
        content = self.site.files.get(path)
        if script:
            script.pop(0)(self, content or b"")
        elif content is None:
            status(404)(self, b"")
        else:
            serve(self, content)

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, code: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def serve(handler: Handler, content: bytes, **headers: str) -> None:
    tag = etag_of(content)
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if wanted and handler.headers.get("If-Range") == tag:
        rest = content[int(wanted[1]) :]
        span = f"bytes {wanted[1]}-{len(content) - 1}/{len(content)}"
        handler.reply(206, {"ETag": tag, "Content-Range": span, "Content-Length": str(len(rest))}, rest)
    else:
        handler.reply(200, {"ETag": tag, "Content-Length": str(len(content)), **headers}, content)


def status(code: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.reply(code, {"Content-Length": "0", **named})


def cut(n: int, then: Callable[[Handler], None] | None = None, tag: str | None = None) -> Answer:
    """Promise everything, send n bytes; then hang up, or do something else first."""

    def answer(handler: Handler, content: bytes) -> None:
        headers = {"ETag": etag_of(content) if tag is None else tag, "Content-Length": str(len(content))}
        handler.reply(200, {name: value for name, value in headers.items() if value}, content[:n])
        handler.wfile.flush()
        if then is not None:
            then(handler)
        handler.close_connection = True

    return answer


def hang(handler: Handler) -> None:
    handler.site.over.wait(20)


def whole(handler: Handler, content: bytes) -> None:
    """Ignore Range."""
    handler.reply(200, {"ETag": etag_of(content), "Content-Length": str(len(content))}, content)


def partial(tag: str, span: str, content: bytes) -> Answer:
    headers = {"ETag": tag, "Content-Range": span, "Content-Length": str(len(content))}
    return lambda handler, _: handler.reply(206, headers, content)


def with_headers(**headers: str) -> Answer:
    return lambda handler, content: serve(handler, content, **{k.replace("_", "-"): v for k, v in headers.items()})


@contextmanager
def running() -> Iterator[Site]:
    site = Site()
    # Polls quickly, so that shutting down costs no time.
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        site.server.shutdown()
        site.server.server_close()
        thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    for name in ("IMPRINT_DATA", "HF_TOKEN", "GITHUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(experiments.fetch_command, "PATIENCE", QUICK)


@contextmanager
def counting(*_: object) -> Iterator[Callable[[int], None]]:
    yield lambda n: None


class Getter:
    """Downloads /f of a site to one place; notes what was said and how long was waited."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.target = site, folder / "data" / "f"
        self.part = self.target.with_name("f.part")
        self.said: list[str] = []
        self.pauses: list[float] = []
        site.files["/f"] = DATA

    def __call__(self, expected: Expected | None = None, token: str = "", bar=counting, patience=QUICK) -> bytes:
        sha256 = Expected(len(DATA), f"sha256:{hashlib.sha256(DATA).hexdigest()}", "the test")
        with requests.Session() as session:
            web = Web(session, patience, self.said.append, self.pauses.append)
            address = Address(f"{self.site.url}/f", "HF_ENDPOINT", "HF_TOKEN", token)
            arrived = download(address, self.target, expected or sha256, web, bar)
        content = self.target.read_bytes()
        assert (arrived.sha256, arrived.size) == (hashlib.sha256(content).hexdigest(), len(content))
        assert sorted(path.name for path in self.target.parent.iterdir()) == ["f"]
        return content

    def fails(self, pattern: str, requests_made: int, kind=WebError, **arguments) -> None:
        """Downloading ends with this message, after so many requests, and with no file."""
        with pytest.raises(kind, match=pattern):
            self(**arguments)
        assert len(self.site.asked) == requests_made
        assert not self.target.exists()


@pytest.fixture
def get(site, tmp_path) -> Getter:
    return Getter(site, tmp_path)


def test_a_file_arrives(get, site):
    assert get() == DATA
    assert site.paths == ["/f"]
    assert site.sent("Accept-Encoding") == ["identity"]
    assert site.sent("Authorization") == site.sent("Range") == [None]


@pytest.mark.parametrize("n", [1, HALF, len(DATA) - 1])
def test_what_breaks_off_is_continued(get, site, n):
    site.scripts["/f"] = [cut(n)]
    assert get() == DATA
    assert site.sent("Range") == [None, f"bytes={n}-"]
    assert site.sent("If-Range") == [None, etag_of(DATA)]
    assert [re.sub(r"[\d.]+ s", "N s", line) for line in get.said] == [
        "  127.0.0.1: the connection broke off; try 2 of 3 in N s"
    ]


def test_what_stalls_is_continued(get, site):
    site.scripts["/f"] = [cut(HALF, hang)]
    assert get() == DATA
    assert site.sent("Range") == [None, f"bytes={HALF}-"]
    assert "no bytes for 0.2 s; try 2 of 3" in get.said[0]


def test_a_later_process_goes_on(get, site):
    site.scripts["/f"] = [cut(1000)]
    get.fails("the connection broke off from .*/f, 1 tries.*what has arrived is kept", 1, patience=Patience(attempts=1))
    assert get.part.read_bytes() == DATA[:1000]
    assert get() == DATA
    assert site.sent("Range")[-1] == "bytes=1000-"


def test_a_file_that_only_lacks_its_name_is_not_asked_for_again(get, site):
    get.part.parent.mkdir()
    get.part.write_bytes(DATA)
    state = {"url": f"{site.url}/f", "etag": etag_of(DATA), "total": len(DATA)}
    get.part.with_name("f.part.state").write_text(json.dumps(state))
    assert get() == DATA
    assert site.asked == []


@pytest.mark.parametrize(
    ("second", "n_requests"),
    [
        (whole, 2),
        (partial('"other"', f"bytes {HALF}-{len(DATA) - 1}/{len(DATA)}", DATA[HALF:]), 3),
        (partial(etag_of(DATA), f"bytes {HALF - 5}-{len(DATA) - 1}/{len(DATA)}", DATA[HALF - 5 :]), 3),
        (partial(etag_of(DATA), f"bytes {HALF}-{len(DATA) - 1}/{len(DATA) + 1}", DATA[HALF:]), 3),
        (partial(etag_of(DATA), f"bytes {HALF}-{len(DATA) - 2}/{len(DATA)}", DATA[HALF:-1]), 3),
        (partial(etag_of(DATA), "nonsense", DATA[HALF:]), 3),
        (status(416), 3),
    ],
    ids=["ignores Range", "other ETag", "other start", "other length", "other end", "no Content-Range", "416"],
)
def test_starts_over_where_the_rest_is_not_confirmed(get, site, second, n_requests):
    site.scripts["/f"] = [cut(HALF), second]
    assert get() == DATA
    assert site.sent("Range") == [None, f"bytes={HALF}-", None][:n_requests]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'], ids=["none", "weak"])
def test_starts_over_where_no_tag_could_confirm(get, site, tag):
    site.scripts["/f"] = [cut(HALF, tag=tag)]
    assert get() == DATA
    assert site.sent("Range") == [None, None]


def test_starts_over_where_the_file_changed_meanwhile(get, site):
    def change(handler: Handler) -> None:
        handler.site.files["/f"] = DATA[::-1]

    site.scripts["/f"] = [cut(HALF, change)]
    assert get(Expected()) == DATA[::-1]
    assert site.sent("Range") == [None, f"bytes={HALF}-"]


def test_starts_over_where_the_address_changed(get, site):
    site.scripts["/f"] = [cut(HALF)]
    get.fails("broke off", 1, patience=Patience(attempts=1))
    state = get.part.with_name("f.part.state")
    state.write_text(state.read_text().replace("/f", "/g"))
    assert get() == DATA
    assert site.sent("Range") == [None, None]


def test_a_spoilt_beginning_is_thrown_away_once(get, site):
    site.scripts["/f"] = [cut(HALF)]
    get.fails("broke off", 1, patience=Patience(attempts=1))
    get.part.write_bytes(bytes(HALF))
    assert get() == DATA
    assert site.sent("Range") == [None, f"bytes={HALF}-", None]
    assert get.said == ["  f: what an earlier attempt left does not fit; starting over"]


def test_corrupt_bytes_are_no_file(get, site):
    site.files["/f"] = DATA[:-1] + b"x"
    pattern = (
        r"found sha256:\w{64} where the test states sha256:\w{64}, in what .*/f sent; .*fix: fetch again, or set HF_"
    )
    get.fails(pattern, 1)
    assert list(get.target.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["sha256", "md5", "git-sha1"])
def test_digests_of_every_kind_are_held_to(get, kind):
    right = git_sha1(DATA) if kind == "git-sha1" else hashlib.new(kind, DATA).hexdigest()
    assert get(Expected(None, f"{kind}:{right}", "the test")) == DATA
    get.target.unlink()
    get.fails(f"found {kind}:{right} where", 2, expected=Expected(None, f"{kind}:00", "the test"))


def test_another_length_is_no_file(get, site):
    get.fails("found 300,000 bytes where the hub states 5", 1, expected=Expected(5, "", "the hub"))


@pytest.mark.parametrize(
    ("content", "answer", "pattern"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            serve,
            r"a git-LFS pointer in place of the data at .*/f; .*clone the repository with git-lfs .* to .*data/f",
        ),
        (b"\n<!DOCTYPE html><p>Log in", serve, r"a web page \(HTML\) in place of .*a log-in page of the network"),
        (b"<p>Log in", with_headers(Content_Type="text/html"), r"a web page \(HTML\) in place of the data at .*/f"),
        (b"", serve, r"an empty file in place of the data at .*/f"),
        (gzip.compress(b"a"), with_headers(Content_Encoding="gzip"), r"a body packed as gzip, which nobody asked for"),
    ],
    ids=["LFS pointer", "HTML", "HTML type", "empty", "packed"],
)
def test_something_else_than_data_is_recognised(get, site, content, answer, pattern):
    site.files["/f"] = content
    site.scripts["/f"] = [answer]
    get.fails(pattern, 1, expected=Expected())
    assert list(get.target.parent.iterdir()) == []


def test_a_page_does_not_replace_what_arrived_before(get, site):
    get.target.parent.mkdir()
    get.target.write_bytes(b"before")
    site.files["/f"] = b"<html>"
    with pytest.raises(WebError, match="web page"):
        get()
    assert get.target.read_bytes() == b"before"


def test_redirects_are_followed_and_a_token_stays_at_home(get, site):
    with running() as other:
        other.files["/g"] = DATA
        site.scripts["/f"] = [status(302, Location="/here")]
        site.scripts["/here"] = [status(307, Location=f"{other.url}/g?signature=s")]
        other.scripts["/g?signature=s"] = [lambda handler, _: cut(HALF)(handler, DATA)]
        # The second try asks the first address again: a signed one may have run out.
        site.scripts["/f"] += [status(308, Location=f"{other.url}/g")]
        assert get(token="secret") == DATA
        assert site.paths == ["/f", "/here", "/f"]
        assert site.sent("Authorization") == ["Bearer secret"] * 3
        assert other.paths == ["/g?signature=s", "/g"]
        assert other.sent("Authorization") == [None, None]
        assert other.sent("Range") == [None, f"bytes={HALF}-"]


def test_redirects_end(get, site):
    site.scripts["/f"] = [status(302, Location="/f")] * 20
    get.fails(r"more than 10 redirects from .*/f", 11)


def test_credentials_are_not_looked_up_elsewhere(get, site, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert get() == DATA
    assert site.sent("Authorization") == [None]


def test_proxies_are_honoured(get, site, monkeypatch):
    with running() as proxy:
        proxy.files[f"{site.url}/f"] = DATA
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert get() == DATA
        assert (len(site.asked), len(proxy.asked)) == (1, 0)
        monkeypatch.setenv("NO_PROXY", "elsewhere.example")
        assert get() == DATA
        assert (len(site.asked), len(proxy.asked)) == (1, 1)


def test_a_busy_server_is_waited_for(get, site):
    site.scripts["/f"] = [status(429, Retry_After="7"), status(503, Retry_After="9")]
    assert get() == DATA
    assert get.pauses == [7.0, 9.0]
    assert "HTTP 429; try 2 of 3 in 7.0 s" in get.said[0]


def test_nobody_waits_for_ever(get, site):
    site.scripts["/f"] = [status(429, Retry_After="61")]
    get.fails(r"HTTP 429 from .*/f, 1 tries, which asks to wait 61 s; .*set HF_TOKEN", 1)
    assert get.pauses == []


def test_a_failing_server_is_asked_again(get, site):
    site.scripts["/f"] = [status(500), status(502)]
    assert get() == DATA
    assert len(site.asked) == 3
    assert 0.005 <= get.pauses[0] <= 0.015
    assert 0.01 <= get.pauses[1] <= 0.03


def test_a_failing_server_is_not_asked_for_ever(get, site):
    site.scripts["/f"] = [status(500)] * 9
    get.fails(r"HTTP 500 from .*/f, 3 tries; .*fix: fetch again later .*, set HF_ENDPOINT to a mirror", 3)


@pytest.mark.parametrize(
    ("answer", "token", "pattern"),
    [
        (status(404), "", r"HTTP 404 from .*/f; needed a file that is there; .*--update"),
        (
            status(401),
            "",
            r"HTTP 401 from .*/f; needed leave to read it; fix: set to a token that may read it: HF_TOKEN",
        ),
        (status(403), "t", r"HTTP 403 .* fix: check the token in HF_TOKEN, or set HF_ENDPOINT to a mirror"),
        (
            status(403, X_RateLimit_Remaining="0"),
            "",
            r"HTTP 403 .*: no requests are left for this hour; .*set HF_TOKEN",
        ),
        (status(400), "", r"HTTP 400 from"),
    ],
)
def test_a_refusal_is_not_asked_again(get, site, answer, token, pattern):
    site.scripts["/f"] = [answer]
    get.fails(pattern, 1, token=token)


def test_no_space_left_keeps_what_arrived(get, site):
    @contextmanager
    def full(*_: object) -> Iterator[Callable[[int], None]]:
        def advance(n: int) -> None:
            raise OSError(ENOSPC, os.strerror(ENOSPC))

        yield advance

    pattern = r"no space left for .*data/f \(No space left on device\); .*it goes on with .*f\.part, .*--root"
    get.fails(pattern, 1, kind=InputError, bar=full)
    assert 0 < get.part.stat().st_size < len(DATA)
    assert get() == DATA
    assert site.sent("Range")[1]


def test_no_space_is_seen_beforehand(get, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    get.fails(r"no space left .*300,000 bytes are to come and 1,000 are free", 1, kind=InputError)


def test_two_processes_do_not_write_one_file(get, site):
    get.part.parent.mkdir()
    with get.part.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        get.fails(r"another process that downloads .*data/f; needed one at a time", 0, kind=InputError)
    assert get() == DATA


def test_what_another_process_finished_just_now_is_not_spoilt(get, site, monkeypatch):
    lock, bars = fcntl.flock, []

    @contextmanager
    def bar(*_: object) -> Iterator[Callable[[int], None]]:
        bars.append(get.target.read_bytes() == DATA)
        yield lambda n: None

    def late(file, how) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        # Between opening the part and locking it: the other one gives that very file its name.
        get()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert get(bar=bar) == DATA
    assert bars == [True]
    assert site.paths == ["/f", "/f"]


def is_locked(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_part_is_held_until_it_has_its_name(get, monkeypatch):
    rename, held = os.replace, []

    def replace(source: Path, target: Path) -> None:
        held.append(is_locked(Path(source)))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    get()
    assert held == [True]


def test_a_part_is_held_until_it_is_thrown_away(get, site, monkeypatch):
    unlink, held = Path.unlink, []

    def drop(path: Path, missing_ok: bool = False) -> None:
        if path == get.part:
            held.append(is_locked(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", drop)
    site.scripts["/f"] = [status(404)]
    get.fails("HTTP 404", 1)
    assert held == [True]


def test_without_locks_a_file_arrives(get, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(ENOLCK, os.strerror(ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    assert get() == DATA


# The command line


def fetch(root: Path, *arguments: str) -> int:
    return main(["data", "fetch", *arguments, "--root", str(root)])


def fails(capsys, code: int, pattern: str) -> None:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("imprint: error:")]
    assert code == 2
    assert len(lines) == 1, captured.err
    assert re.search(pattern, lines[0]), lines[0]
    assert "Traceback" not in captured.err


def hub_listing(files: dict[str, bytes], commit: str) -> bytes:
    siblings = []
    for name, content in files.items():
        stored = {"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if name.endswith(".gz") else {}
        blob = "0" * 40 if stored else git_sha1(content)
        siblings.append({"rfilename": name, "size": len(content), "blobId": blob, **stored})
    return json.dumps({"sha": commit, "siblings": siblings}).encode()


class Upstream:
    """Every host in one: what each serves of a data set, as it does."""

    def __init__(self, site: Site, monkeypatch) -> None:
        self.site = site
        for host in ("HF_ENDPOINT", *(f"IMPRINT_{name}_MIRROR" for name in ("GITHUB", "ZENODO", "OPENAI"))):
            monkeypatch.setenv(host, site.url)
        monkeypatch.setenv("IMPRINT_GITHUB_API", site.url)

    def put(self, name: str, files: dict[str, bytes], commit: str = OLD) -> None:
        """Serve `files` (path upstream -> bytes) as the newest commit of a data set."""
        source, served = SOURCES[name], self.site.files
        match source.host:
            case "hub":
                base = f"/api/datasets/{source.repository}/revision"
                for revision in ("main", commit):
                    served[f"{base}/{revision}?blobs=true"] = hub_listing(files, commit)
                prefix = f"/datasets/{source.repository}/resolve/{commit}/"
            case "github":
                commit = source.revision if source.is_pinned else commit
                base = f"/repos/{source.repository}"
                tree = [
                    {"path": path, "type": "blob", "sha": git_sha1(content), "size": len(content)}
                    for path, content in files.items()
                ]
                served[f"{base}/commits/main"] = served[f"{base}/commits/{commit}"] = commit.encode()
                tree.append({"path": "data", "type": "tree", "sha": "0" * 40})
                served[f"{base}/git/trees/{commit}?recursive=1"] = json.dumps({"tree": tree}).encode()
                prefix = f"/{source.repository}/{commit}/"
            case "zenodo":
                base = f"/api/records/{source.revision}"
                entries = [
                    {"key": key, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
                    for key, content in files.items()
                ]
                served[base] = json.dumps({"files": entries}).encode()
                served |= {f"{base}/files/{key}/content": content for key, content in files.items()}
                return
            case _:
                prefix = f"/{source.repository}/"
        served |= {prefix + path: content for path, content in files.items()}


@pytest.fixture
def upstream(site, monkeypatch) -> Upstream:
    return Upstream(site, monkeypatch)


def put_every_set(upstream: Upstream, tiny_root: Path, monkeypatch) -> None:
    """Serve tiny files in the native layout of every data set; what is pinned is pinned to them."""
    dialogues = (tiny_root / "hh-rlhf" / "harmless-base" / "test.jsonl.gz").read_bytes()
    scored = [{"response": "a book .", "score": 9.0, "source": "x"}, {"response": "no .", "score": 1.0, "source": "y"}]
    rows = [{"user_input": f"help {i} ?", "responses_and_scores": scored} for i in range(5)]
    made = {
        "hh-rlhf": lambda path: dialogues,
        "alpaca-gpt4": lambda path: json.dumps(rows).encode(),
        "xstest": lambda path: b"id,prompt,type,label\r\n1,how ?,homonyms,safe\r\n" + path.encode(),
    }
    for name, source in SOURCES.items():
        read = made.get(name, lambda path: (tiny_root / path).read_bytes())
        files = {file.upstream: read(file.path) for file in source.files}
        pinned = tuple(
            replace(file, digest=f"git-sha1:{git_sha1(files[file.upstream])}" if file.digest else "")
            for file in source.files
        )
        monkeypatch.setitem(SOURCES, name, replace(source, files=pinned))
        upstream.put(name, files)


def test_every_data_set_is_fetched_listed_and_read(site, upstream, tiny_root, tmp_path, monkeypatch, capsys):
    put_every_set(upstream, tiny_root, monkeypatch)
    root = tmp_path / "root"
    for name in SOURCES:
        assert fetch(root, name) == 0
        out = capsys.readouterr().out
        source = SOURCES[name]
        assert source.licence in out or "Licence: none stated." in out
        assert source.citation in out
        assert source.terms in out
        assert out.count("downloaded") == len(source.files)
    # Listing and files of what is not pinned, files alone of what is.
    assert len(site.asked) == (8 + 1) + (1 + 2) * 3 + (4 + 1) + 1 + 1 + 3

    site.asked.clear()
    for name in SOURCES:
        assert fetch(root, name) == 0
        assert capsys.readouterr().out.count("was there") == len(SOURCES[name].files)
    assert site.asked == []

    assert main(["data", "list", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    for name in SOURCES:
        assert re.search(rf"│ {name} .*│ yes +│", out), out
    assert "can be fetched" not in out
    taxonomies = {
        "value-imprint": "value-imprint",
        "fulcra": "schwartz",
        "valueeval": "valueeval",
        "hh-quality": "hh-quality",
    }
    for name, taxonomy in taxonomies.items():
        assert read_annotations(name, None, root, load_taxonomy(taxonomy)).texts
    for name in ("hh-rlhf", "webgpt", "alpaca-gpt4"):
        assert read_preferences(name, root).report.n_read
    assert read_preferences("hh-rlhf", root, split="train").report.n_read

    lock = json.loads((root / "sources.lock").read_text())
    assert list(lock) == sorted(SOURCES)
    assert lock["hh-rlhf"]["revision"] == OLD
    for entry in lock.values():
        for path, file in entry["files"].items():
            content = (root / path).read_bytes()
            assert (file["sha256"], file["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert not list(root.rglob("*.part*"))


def test_without_a_name_it_lists(tiny_root, capsys):
    assert main(["data", "fetch"]) == 0
    assert "CC BY-NC 4.0" in capsys.readouterr().out
    assert fetch(tiny_root) == 0
    out = capsys.readouterr().out
    assert re.search(r"webgpt +│ .* │ none stated +│ 1 of 1 +│", out)
    assert re.search(r"hh-rlhf +│ .*hub +│ MIT +│ 1 of 8 +│", out)


def test_what_is_missing_says_where_it_comes_from(tiny_root, tmp_path, capsys):
    (tmp_path / "webgpt").mkdir()
    (tmp_path / "webgpt" / "comparisons.jsonl.part").write_text("{")
    assert main(["data", "list", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"│ webgpt .*│ no +│", out)
    assert re.search(r"imprint data fetch hh-rlhf +from Anthropic/hh-rlhf, the Hugging Face hub", out)


def put_dialogues(upstream: Upstream, commit: str, text: bytes = b"") -> dict[str, bytes]:
    files = {file.upstream: file.upstream.encode() + text for file in SOURCES["hh-rlhf"].files}
    upstream.put("hh-rlhf", files, commit)
    return files


def test_later_fetches_hold_to_the_first(site, upstream, tmp_path, capsys):
    before = put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf", "--split", "test") == 0
    assert f"revision {OLD}" in capsys.readouterr().out
    assert len(site.asked) == 5
    after = put_dialogues(upstream, NEW, b"new")
    site.asked.clear()
    assert fetch(tmp_path, "hh-rlhf", "--split", "train") == 0
    assert [path for path in site.paths if "/main" in path] == []
    assert len(site.asked) == 5
    assert len(json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]["files"]) == 8
    for file in SOURCES["hh-rlhf"].files:
        assert (tmp_path / file.path).read_bytes() == before[file.upstream]

    assert fetch(tmp_path, "hh-rlhf", "--split", "test", "--update") == 0
    assert f"revision {NEW}" in capsys.readouterr().out
    lock = json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]
    assert lock["revision"] == NEW
    # One revision for all that is there, also for what this call did not name.
    for file in SOURCES["hh-rlhf"].files:
        assert (tmp_path / file.path).read_bytes() == after[file.upstream]
        assert lock["files"][file.path]["size"] == len(after[file.upstream])
    site.asked.clear()
    assert fetch(tmp_path, "hh-rlhf", "--update") == 0
    assert len(site.asked) == 1


def test_a_server_that_answers_another_revision_than_locked(site, upstream, tmp_path, capsys):
    put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf", "--split", "test") == 0
    lock = (tmp_path / "sources.lock").read_text()
    listing = f"/api/datasets/Anthropic/hh-rlhf/revision/{OLD}?blobs=true"
    site.files[listing] = site.files[listing].replace(OLD.encode(), NEW.encode())
    site.asked.clear()
    pattern = rf"revision '{NEW}' where .*sources\.lock states '{OLD}'; .*fix: take what upstream has now with --update"
    fails(capsys, fetch(tmp_path, "hh-rlhf", "--split", "train"), pattern)
    assert len(site.asked) == 1
    assert (tmp_path / "sources.lock").read_text() == lock


def test_a_server_that_sends_another_content_than_locked(site, upstream, tmp_path, capsys):
    put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf") == 0
    target = tmp_path / "hh-rlhf" / "harmless-base" / "test.jsonl.gz"
    target.unlink()
    site.files[f"/datasets/Anthropic/hh-rlhf/resolve/{OLD}/harmless-base/test.jsonl.gz"] = (
        b"harmless-base/TEST.jsonl.gz"
    )
    lock = (tmp_path / "sources.lock").read_text()
    pattern = r"sha256:\w+ where .*sources\.lock states sha256:\w+, in what .*; fix: .*with --update"
    fails(capsys, fetch(tmp_path, "hh-rlhf"), pattern)
    assert not target.exists()
    assert (tmp_path / "sources.lock").read_text() == lock


def test_a_file_of_ones_own_is_left_alone(upstream, tmp_path, capsys):
    put_dialogues(upstream, OLD)
    target = tmp_path / "hh-rlhf" / "harmless-base" / "test.jsonl.gz"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"my own")
    fails(capsys, fetch(tmp_path, "hh-rlhf"), r"test\.jsonl\.gz: 6 bytes where the hub states 27; .*fix: move it away")
    target.unlink()
    assert fetch(tmp_path, "hh-rlhf") == 0
    target.write_bytes(b"my own")
    for flags in ((), ("--update",)):
        fails(capsys, fetch(tmp_path, "hh-rlhf", *flags), r"test\.jsonl\.gz: 6 bytes where .*fix: move it away")
        assert target.read_bytes() == b"my own"


def test_a_file_brought_by_hand_is_taken_where_it_is_the_right_one(site, upstream, tmp_path, capsys):
    files = put_dialogues(upstream, OLD)
    for file in SOURCES["hh-rlhf"].files:
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).write_bytes(files[file.upstream])
    assert fetch(tmp_path, "hh-rlhf") == 0
    assert len(site.asked) == 1
    assert len(json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]["files"]) == 8


def by_hand(root: Path, content: bytes) -> Path:
    """Put a file where webgpt goes, whose host states no digests."""
    path = root / "webgpt" / "comparisons.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_of_which_nobody_says_what_it_is_is_held_to_from_first_sight(site, upstream, tmp_path, capsys):
    by_hand(tmp_path, b"{}\n")
    unknown = "was there; nobody states what it should be: taken as it is, and held to from now on"
    assert fetch(tmp_path, "webgpt") == 0
    assert unknown in capsys.readouterr().out
    entry = json.loads((tmp_path / "sources.lock").read_text())["webgpt"]["files"]["webgpt/comparisons.jsonl"]
    sha256 = hashlib.sha256(b"{}\n").hexdigest()
    assert entry == {"upstream": "comparisons.jsonl", "sha256": sha256, "size": 3}
    assert fetch(tmp_path, "webgpt") == 0
    assert capsys.readouterr().out.count("was there\n") == 1
    assert site.asked == []
    path = by_hand(tmp_path, b"[]\n")
    pattern = r"comparisons\.jsonl: sha256:\w+ where .*sources\.lock states sha256:\w+; .*move it away"
    fails(capsys, fetch(tmp_path, "webgpt"), pattern)
    assert path.read_bytes() == b"[]\n"
    # Neither what was fetched nor what upstream has: an update does not take it for either.
    upstream.put("webgpt", {"comparisons.jsonl": b"{}\n"})
    fails(capsys, fetch(tmp_path, "webgpt", "--update"), r"nobody states what it should be; .*fix: move it away, then")
    assert path.read_bytes() == b"[]\n"


def test_an_update_does_not_take_what_was_brought_by_hand(site, upstream, tmp_path, capsys):
    path = by_hand(tmp_path, b"{}\n")
    upstream.put("webgpt", {"comparisons.jsonl": b"[]\n"})
    pattern = (
        r"nobody states what it should be; .*fix: move it away, .*, or leave out --update, which takes it as it is"
    )
    fails(capsys, fetch(tmp_path, "webgpt", "--update"), pattern)
    assert path.read_bytes() == b"{}\n"
    assert not (tmp_path / "sources.lock").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"<!doctype html>", "a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer"),
    ],
)
def test_what_is_no_data_is_not_taken_as_it_is(tmp_path, capsys, content, what):
    path = by_hand(tmp_path, content)
    fails(capsys, fetch(tmp_path, "webgpt"), rf"comparisons\.jsonl: {re.escape(what)} in place of the data; .*move it")
    assert path.read_bytes() == content
    assert not (tmp_path / "sources.lock").exists()


def test_what_is_there_is_read_once(upstream, tmp_path, monkeypatch):
    put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf") == 0
    digests, read = datamodules.download.file_digests, []

    def counted(path: Path, *kinds: str) -> dict[str, str]:
        read.append(path)
        return digests(path, *kinds)

    monkeypatch.setattr(datamodules.download, "file_digests", counted)
    assert fetch(tmp_path, "hh-rlhf") == 0
    assert sorted(read) == sorted(tmp_path / file.path for file in SOURCES["hh-rlhf"].files)


def meanwhile(site: Site, commit: str, action: Callable[[], int]) -> list[int]:
    """Do something else while the first train file is on its way; its exit code comes into the list."""
    codes: list[int] = []

    def answer(handler: Handler, content: bytes) -> None:
        codes.append(action())
        serve(handler, content)

    site.scripts[f"/datasets/Anthropic/hh-rlhf/resolve/{commit}/harmless-base/train.jsonl.gz"] = [answer]
    return codes


def test_two_splits_fetched_at_once_are_both_locked(site, upstream, tmp_path):
    put_dialogues(upstream, OLD)
    codes = meanwhile(site, OLD, lambda: fetch(tmp_path, "hh-rlhf", "--split", "test"))
    assert fetch(tmp_path, "hh-rlhf", "--split", "train") == 0
    assert codes == [0]
    files = json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]["files"]
    assert sorted(files) == sorted(file.path for file in SOURCES["hh-rlhf"].files)
    assert not (tmp_path / "sources.lock.held").exists()


def test_two_revisions_are_not_locked_as_one(site, upstream, tmp_path, capsys):
    put_dialogues(upstream, OLD)

    def newer() -> int:
        put_dialogues(upstream, NEW, b"new")
        return fetch(tmp_path, "hh-rlhf", "--split", "test")

    codes = meanwhile(site, OLD, newer)
    pattern = (
        rf"another fetch wrote .*sources\.lock meanwhile: hh-rlhf at {NEW}, here {OLD}; .*fix: fetch again, one at"
    )
    fails(capsys, fetch(tmp_path, "hh-rlhf", "--split", "train"), pattern)
    assert codes == [0]
    entry = json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]
    assert entry["revision"] == NEW
    assert len(entry["files"]) == 4


def test_an_update_does_not_forget_what_another_fetch_added(site, upstream, tmp_path, capsys):
    put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf", "--split", "train") == 0
    after = put_dialogues(upstream, NEW, b"new")
    codes = meanwhile(site, NEW, lambda: fetch(tmp_path, "hh-rlhf", "--split", "test"))
    pattern = rf"hh-rlhf at {OLD}, here {NEW}; .*fix: fetch again with --update, one at a time"
    fails(capsys, fetch(tmp_path, "hh-rlhf", "--split", "train", "--update"), pattern)
    assert codes == [0]
    assert len(json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]["files"]) == 8
    assert fetch(tmp_path, "hh-rlhf", "--update") == 0
    entry = json.loads((tmp_path / "sources.lock").read_text())["hh-rlhf"]
    assert (entry["revision"], len(entry["files"])) == (NEW, 8)
    for file in SOURCES["hh-rlhf"].files:
        assert (tmp_path / file.path).read_bytes() == after[file.upstream]


def test_two_updates_at_once_agree(site, upstream, tmp_path):
    put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf") == 0
    put_dialogues(upstream, NEW, b"new")

    def other() -> int:
        """What the other update leaves in the lock."""
        entry = json.loads((tmp_path / "sources.lock").read_text())
        entry["hh-rlhf"] |= {"revision": NEW}
        for file in SOURCES["hh-rlhf"].files:
            content = file.upstream.encode() + b"new"
            locked = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            entry["hh-rlhf"]["files"][file.path] |= locked
        (tmp_path / "sources.lock").write_text(json.dumps(entry))
        return 0

    codes = meanwhile(site, NEW, other)
    assert fetch(tmp_path, "hh-rlhf", "--update") == 0
    assert codes == [0]


def test_another_content_of_the_same_revision_is_not_locked(site, upstream, tmp_path, capsys):
    upstream.put("webgpt", {"comparisons.jsonl": b"{}\n"})

    def answer(handler: Handler, content: bytes) -> None:
        file = {"upstream": "comparisons.jsonl", "sha256": "0" * 64, "size": 3}
        entry = {"repository": "webgpt-answer-viewer", "revision": "", "files": {"webgpt/comparisons.jsonl": file}}
        (tmp_path / "sources.lock").write_text(json.dumps({"webgpt": entry}))
        serve(handler, content)

    site.scripts["/webgpt-answer-viewer/comparisons.jsonl"] = [answer]
    fails(capsys, fetch(tmp_path, "webgpt"), r"meanwhile: webgpt with another webgpt/comparisons\.jsonl; .*fetch again")
    assert "0" * 64 in (tmp_path / "sources.lock").read_text()


@pytest.mark.parametrize("place", ["revision", "upstream"])
def test_a_lock_with_half_a_character(upstream, tmp_path, capsys, place):
    put_dialogues(upstream, OLD)
    assert fetch(tmp_path, "hh-rlhf") == 0
    lock = tmp_path / "sources.lock"
    lock.write_text(lock.read_text().replace(f'"{place}": "', f'"{place}": "\\ud800', 1))
    (tmp_path / "hh-rlhf" / "harmless-base" / "test.jsonl.gz").unlink()
    fails(capsys, fetch(tmp_path, "hh-rlhf"), r"sources\.lock, which holds something else; .*fix: mend or delete")


def test_a_file_that_moved_upstream_is_found(upstream, tmp_path, capsys):
    upstream.put("fulcra", {"elsewhere/trustworthy_data.jsonl": b"{}\n"})
    assert fetch(tmp_path, "fulcra") == 0
    assert "lies at elsewhere/trustworthy_data.jsonl now" in capsys.readouterr().err
    assert (tmp_path / "fulcra" / "trustworthy_data.jsonl").read_bytes() == b"{}\n"
    entry = json.loads((tmp_path / "sources.lock").read_text())["fulcra"]
    assert entry["files"]["fulcra/trustworthy_data.jsonl"]["upstream"] == "elsewhere/trustworthy_data.jsonl"


def test_pinned_content_is_held_to(upstream, tmp_path, capsys):
    upstream.put("value-imprint", {"dataset/human_values_annotation_groundtruth.csv": b"Text,Label\n"})
    pattern = r"git-sha1:\w{40} where imprint states git-sha1:d3e23460f55f865a9c12937e271022114d7e859f, in what"
    fails(capsys, fetch(tmp_path, "value-imprint"), pattern)
    assert not (tmp_path / "sources.lock").exists()


def test_a_lock_of_another_pinned_revision(upstream, tmp_path, capsys):
    entry = {"repository": "ikeobimummc/value_imprint_rlhf", "revision": NEW, "files": {}}
    (tmp_path / "sources.lock").write_text(json.dumps({"value-imprint": entry}))
    fails(capsys, fetch(tmp_path, "value-imprint"), rf"{NEW} for value-imprint in .*needed .*f8d281fa.*--update")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/repos/microsoft/ValueCompass/commits/main", b"<html>"),
        (f"/repos/microsoft/ValueCompass/git/trees/{OLD}?recursive=1", b'{"tree": [{}]}'),
        (f"/repos/microsoft/ValueCompass/git/trees/{OLD}?recursive=1", b"\xff"),
        (f"/repos/microsoft/ValueCompass/git/trees/{OLD}?recursive=1", HALF_A_CHARACTER),
    ],
)
def test_a_mirror_that_gives_no_listing(site, upstream, tmp_path, capsys, path, content):
    upstream.put("fulcra", {"Value_FULCRA/data/trustworthy_data.jsonl": b"{}\n"})
    site.files[path] = content
    pattern = r"no listing of files at .*; needed the answer of https://api\.github\.com; fix: check IMPRINT_GITHUB_API"
    fails(capsys, fetch(tmp_path, "fulcra"), pattern)


def test_a_mirror_that_gives_half_a_listing(site, upstream, tmp_path, capsys):
    put_dialogues(upstream, OLD)
    site.files["/api/datasets/Anthropic/hh-rlhf/revision/main?blobs=true"] = b'{"sha": "x", "siblings": ["a"]}'
    fails(capsys, fetch(tmp_path, "hh-rlhf"), r"no listing of files at .*/main, but .*; fix: check HF_ENDPOINT")


def test_no_network(tmp_path, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        code = fetch(tmp_path, "hh-rlhf", "--split", "test")
    place = re.escape(str(tmp_path / "hh-rlhf" / "helpful-base" / "test.jsonl.gz"))
    pattern = (
        r"found no connection to 127\.0\.0\.1 \(Connection refused\); needed .*NO_PROXY are honoured.*; "
        rf"fix: .*copy by hand, from Anthropic/hh-rlhf, the Hugging Face hub: .*helpful-base/test\.jsonl\.gz to {place}"
    )
    fails(capsys, code, pattern)


def test_no_proxy_and_its_password_is_not_told(tmp_path, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
        code = fetch(tmp_path, "hh-rlhf")
    captured = capsys.readouterr()
    assert code == 2
    assert "no connection to hub.example (the proxy does not answer: Connection refused)" in captured.err
    assert "secret" not in captured.err + captured.out


def test_no_secure_connection(site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", site.url.replace("http:", "https:"))
    fails(capsys, fetch(tmp_path, "hh-rlhf"), r"no secure connection to 127\.0\.0\.1 .*; fix: set REQUESTS_CA_BUNDLE")


def test_a_lock_that_cannot_be_written(upstream, tmp_path, capsys):
    (tmp_path / "sources.lock").mkdir()
    upstream.put("webgpt", {"comparisons.jsonl": b"{}\n"})
    fails(capsys, fetch(tmp_path, "webgpt"), r"found .*sources\.lock \(Is a directory\); needed .*--root")


def test_a_root_without_news_is_not_written_to(upstream, tmp_path, monkeypatch):
    upstream.put("webgpt", {"comparisons.jsonl": b"{}\n"})
    assert fetch(tmp_path, "webgpt") == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert fetch(tmp_path, "webgpt") == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["hh"], r"data set 'hh'; needed one of value-imprint"),
        (["webgpt"], r"no data root; needed .*; fix: --root DIR, or set IMPRINT_DATA"),
        (["webgpt", "--split", "test"], r"--split test of webgpt"),
        (["hh-rlhf", "--split", "dev"], r"--split"),
        (["webgpt", "--root", "FILE"], r"FILE.*cannot be written .*; fix: name another data root with --root"),
    ],
)
def test_mistakes(upstream, tmp_path, monkeypatch, capsys, arguments, pattern):
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("")
    upstream.put("webgpt", {"comparisons.jsonl": b"{}\n"})
    fails(capsys, main(["data", "fetch", *arguments]), pattern)


def test_a_hub_token_is_used(site, upstream, tmp_path, monkeypatch):
    put_dialogues(upstream, OLD)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("GITHUB_TOKEN", "other")
    assert fetch(tmp_path, "hh-rlhf", "--split", "test") == 0
    assert set(site.sent("Authorization")) == {"Bearer secret"}
    site.asked.clear()
    upstream.put("fulcra", {"Value_FULCRA/data/trustworthy_data.jsonl": b"{}\n"})
    assert fetch(tmp_path, "fulcra") == 0
    assert set(site.sent("Authorization")) == {None}


def test_an_interrupt_keeps_what_arrived(site, upstream, tmp_path, capsys):
    upstream.put("webgpt", {"comparisons.jsonl": DATA})
    path = "/webgpt-answer-viewer/comparisons.jsonl"

    def interrupt(handler: Handler) -> None:
        part = tmp_path / "webgpt" / "comparisons.jsonl.part"
        while not part.exists() or part.stat().st_size < HALF:
            handler.site.over.wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        hang(handler)

    site.scripts[path] = [cut(HALF, interrupt)]
    assert fetch(tmp_path, "webgpt") == 130
    assert "kept in .part files; fetching again goes on from there" in capsys.readouterr().err
    assert sorted(file.name for file in (tmp_path / "webgpt").iterdir()) == [
        "comparisons.jsonl.part",
        "comparisons.jsonl.part.state",
    ]
    assert fetch(tmp_path, "webgpt") == 0
    assert site.sent("Range") == [None, f"bytes={HALF}-"]
    assert (tmp_path / "webgpt" / "comparisons.jsonl").read_bytes() == DATA
