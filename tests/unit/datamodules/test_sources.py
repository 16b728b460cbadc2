"""Where data sets come from, what a lock holds, and to whom a token is told."""

import hashlib
import json
import random
import re
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests

from datamodules.annotations import FULCRA_FILE, HH_QUALITY_FILE, VALUE_IMPRINT_FILE
from datamodules.download import Arrived, Expected, check_file, file_digests
from datamodules.errors import InputError
from datamodules.source_hosts import BASES, file_address, locate
from datamodules.sources import SOURCES, files_of_split, source_named
from datamodules.sources_lock import LockedFile, LockedSource, change_lock, read_lock
from datamodules.web import Address, Patience, TryAgain, Web, WebError, _redirected, persistently, retry_after

HASH = "0" * 64
LOCKED = f'{{"upstream": "place", "sha256": "{HASH}", "size": 1}}'
SURROGATE = "\\ud800"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in (*BASES, "HF_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_names_and_places_are_what_the_readers_expect():
    preferences = ["hh-rlhf", "webgpt", "alpaca-gpt4"]
    assert list(SOURCES) == ["value-imprint", "fulcra", "valueeval", "hh-quality", *preferences, "xstest"]
    paths = {name: {file.path for file in source.files} for name, source in SOURCES.items()}
    assert paths["value-imprint"] == {VALUE_IMPRINT_FILE.as_posix()}
    assert paths["fulcra"] == {FULCRA_FILE.as_posix()}
    assert paths["hh-quality"] == {HH_QUALITY_FILE.as_posix()}
    kinds = ("arguments-training", "labels-training", "arguments-validation", "labels-validation")
    assert paths["valueeval"] == {f"valueeval/{kind}.tsv" for kind in kinds}
    subsets = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
    assert paths["hh-rlhf"] == {f"hh-rlhf/{s}/{split}.jsonl.gz" for s in subsets for split in ("train", "test")}
    assert paths["webgpt"] == {"webgpt/comparisons.jsonl"}
    assert paths["alpaca-gpt4"] == {"alpaca-gpt4/comparison_data_v2.json"}
    assert "xstest/xstest_prompts.csv" in paths["xstest"]


def test_every_digest_belongs_to_a_pinned_revision():
    for source in SOURCES.values():
        for file in source.files:
            assert re.fullmatch(r"(sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40})?", file.digest)
            assert source.is_pinned or not file.digest
    assert {name for name, source in SOURCES.items() if source.is_pinned} == {"value-imprint", "valueeval", "xstest"}


def test_restrictions_are_told():
    for source in SOURCES.values():
        assert source.citation
        is_restricted = "NC" in source.licence or not source.licence
        assert (re.search("not for commercial|no licence", source.terms) is not None) == is_restricted


def test_unknown_names_and_splits():
    with pytest.raises(InputError, match=r"data set 'hh'; needed one of value-imprint, .*imprint data fetch lists"):
        source_named("hh")
    with pytest.raises(InputError, match=r"--split test of webgpt; needed a data set that ships splits \(hh-rlhf\)"):
        files_of_split(SOURCES["webgpt"], "test")
    assert {file.split for file in files_of_split(SOURCES["hh-rlhf"], "test")} == {"test"}
    assert len(files_of_split(SOURCES["hh-rlhf"], "all")) == 8


@pytest.mark.parametrize(
    ("name", "revision", "url"),
    [
        ("hh-rlhf", "abc", "https://huggingface.co/datasets/Anthropic/hh-rlhf/resolve/abc/a%20b/c.csv"),
        ("fulcra", "abc", "https://raw.githubusercontent.com/microsoft/ValueCompass/abc/a%20b/c.csv"),
        ("valueeval", "12", "https://zenodo.org/api/records/12/files/a%20b/c.csv/content"),
        ("webgpt", "", "https://openaipublic.blob.core.windows.net/webgpt-answer-viewer/a%20b/c.csv"),
    ],
)
def test_addresses(monkeypatch, name, revision, url):
    address = file_address(SOURCES[name], revision, "a b/c.csv")
    assert address.url == url
    monkeypatch.setenv(address.mirror_variable, "https://mirror.example/x/")
    assert file_address(SOURCES[name], revision, "a b/c.csv").url == "https://mirror.example/x/" + url.split("/", 3)[3]


def test_tokens_go_to_their_own_server_only(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " hub ")
    monkeypatch.setenv("GITHUB_TOKEN", "git")
    hub, git = (file_address(SOURCES[name], "abc", "f") for name in ("hh-rlhf", "xstest"))
    assert hub.authorization("https://huggingface.co/other") == {"Authorization": "Bearer hub"}
    assert git.authorization(git.url) == {"Authorization": "Bearer git"}
    for elsewhere in ("https://cdn.example/f", "http://huggingface.co/f", "https://huggingface.co:444/f"):
        assert hub.authorization(elsewhere) == {}
    assert file_address(SOURCES["webgpt"], "", "f").token == file_address(SOURCES["valueeval"], "1", "f").token == ""
    monkeypatch.setenv("IMPRINT_GITHUB_MIRROR", "https://mirror.example")
    assert file_address(SOURCES["xstest"], "abc", "f").token == ""
    # A mirror of the hub gets it, as with the hub's own tools, but not where everybody can listen.
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    mirrored = file_address(SOURCES["hh-rlhf"], "abc", "f")
    assert mirrored.authorization(mirrored.url) == {"Authorization": "Bearer hub"}
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    open_to_all = file_address(SOURCES["hh-rlhf"], "abc", "f")
    assert open_to_all.authorization(open_to_all.url) == {}


def test_redirects_keep_https():
    address = Address("https://one.example/f?sig=1", "HF_ENDPOINT")
    assert _redirected(address.url, "/g", address) == "https://one.example/g"
    assert _redirected("http://one.example/f", "http://two.example/g", address) == "http://two.example/g"
    for location in ("http://one.example/f?secret=1", "ftp://one.example/f", "file:///etc/passwd"):
        with pytest.raises(WebError, match=r"a redirect of https://one\.example/f to .*; needed https") as raised:
            _redirected(address.url, location, address)
        assert "secret" not in str(raised.value)


def test_retry_after_is_a_number_or_a_date():
    answer = requests.Response()
    for value, expected in (("7", 7.0), ("", None), ("soon", None), ("-1", None)):
        answer.headers["Retry-After"] = value
        assert retry_after(answer) == expected
    answer.headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (retry_after(answer) or 0) <= 30
    answer.headers["Retry-After"] = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    assert retry_after(answer) == 0


def failing(web: Web, **failure) -> WebError:
    def attempt():
        raise TryAgain("HTTP 500", **failure)

    with pytest.raises(WebError) as raised:
        persistently(attempt, Address("https://one.example/f?sig=1", "HF_ENDPOINT", "HF_TOKEN"), web)
    return raised.value


def test_pauses_double_with_seeded_chance():
    chance, pauses, said = random.Random(3), [], []
    patience = Patience(attempts=4, first_wait=2.0, longest_wait=7.0)
    web = Web(requests.Session(), patience, said.append, pauses.append, chance.random)
    error = failing(web)
    again = random.Random(3)
    assert pauses == [min(2.0 * 2**k * (0.5 + again.random()), 7.0) for k in range(3)]
    assert len(said) == 3
    assert said[0].startswith("  one.example: HTTP 500; try 2 of 4 in ")
    assert error.found == "HTTP 500 from https://one.example/f, 4 tries"


def test_a_server_is_waited_for_as_long_as_it_asks():
    pauses = []
    web = Web(requests.Session(), Patience(attempts=3, longest_wait=100.0), print, pauses.append)
    failing(web, after=99.0)
    assert pauses == [99.0, 99.0]
    error = failing(web, after=101.0, status=429)
    assert len(pauses) == 2
    assert "1 tries, which asks to wait 101 s" in error.found
    assert "set HF_TOKEN" in error.fix


def test_fewer_tries_where_nobody_is_there():
    pauses = []
    error = failing(Web(requests.Session(), Patience(connections=2), print, pauses.append), is_unreachable=True)
    assert len(pauses) == 1
    assert error.found == "no connection to one.example (HTTP 500)"
    assert "HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured" in error.needed
    assert "set HF_ENDPOINT to a mirror" in error.fix


def test_failures_of_both_kinds_end_as_well():
    pauses, said = [], []
    failures = [False] * 3 + [True] * 9

    def attempt():
        raise TryAgain("busy", is_unreachable=failures.pop(0))

    web = Web(requests.Session(), Patience(attempts=5, connections=3), said.append, pauses.append)
    with pytest.raises(WebError, match=r"no connection to one\.example \(busy\)"):
        persistently(attempt, Address("https://one.example/f", "HF_ENDPOINT"), web)
    assert len(pauses) == 3
    tries = [re.search(r"try (\d) of (\d)", line).groups() for line in said]
    assert tries == [("2", "5"), ("3", "5"), ("4", "5")]


def test_a_moved_file_is_found_by_its_name():
    source, nothing = SOURCES["fulcra"], Expected()
    assert locate({"a/x.csv": nothing, "x.csv": nothing}, "x.csv", source) == "x.csv"
    assert locate({"b/x.csv": nothing, "b/y.csv": nothing}, "a/x.csv", source) == "b/x.csv"
    with pytest.raises(WebError, match=r"no a/x\.csv in microsoft/ValueCompass, but b/x\.csv, c/x\.csv"):
        locate({"b/x.csv": nothing, "c/x.csv": nothing}, "a/x.csv", source)
    with pytest.raises(WebError, match=r"no a/x\.csv in microsoft/ValueCompass; needed"):
        locate({"README.md": nothing}, "a/x.csv", source)


def test_digests_are_those_of_git_and_of_the_usual_tools(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    # `echo hello | git hash-object --stdin`, sha256sum, md5sum
    assert file_digests(path, "git-sha1", "sha256", "md5") == {
        "git-sha1": "git-sha1:ce013625030ba8dba906f756967f9e9ca394464a",
        "sha256": "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "md5": "md5:b1946ac92492d2347c6235b4d2611184",
    }
    assert check_file(path, Expected()) == Arrived(hashlib.sha256(b"hello\n").hexdigest(), 6)
    assert check_file(path, Expected(7, "", "Zenodo")) == "6 bytes where Zenodo states 7"
    wrong = check_file(path, Expected(6, "md5:00", "Zenodo"))
    assert wrong == "md5:b1946ac92492d2347c6235b4d2611184 where Zenodo states md5:00"


def test_a_lock_is_sorted_and_keeps_other_entries(tmp_path):
    assert read_lock(tmp_path) == {}
    first = LockedSource("b/b", "c1", {"b/2": LockedFile("2", HASH, 2), "b/1": LockedFile("1", HASH, 1)})
    second = LockedSource("a/a", "c2", {"a/1": LockedFile("1", HASH, 0)})
    change_lock(tmp_path, "b", lambda _: first)
    change_lock(tmp_path, "a", lambda _: second)
    assert read_lock(tmp_path) == {"a": second, "b": first}
    text = (tmp_path / "sources.lock").read_text()
    assert list(json.loads(text)) == ["a", "b"]
    assert list(json.loads(text)["b"]["files"]) == ["b/1", "b/2"]
    assert text.count("\n") > 20
    assert [path.name for path in tmp_path.iterdir()] == ["sources.lock"]


def test_a_lock_that_two_change_at_once_keeps_both(tmp_path):
    one, other = (LockedSource(name, "c", {}) for name in "ab")
    second = threading.Thread(target=change_lock, args=(tmp_path, "b", lambda _: other))
    seen = []

    def change(current: LockedSource | None) -> LockedSource:
        seen.append(current)
        # The first call only asks whether there is news.
        if len(seen) == 2:
            second.start()
            second.join(0.3)
            assert second.is_alive()
        return one

    change_lock(tmp_path, "a", change)
    second.join()
    assert seen == [None, None]
    assert read_lock(tmp_path) == {"a": one, "b": other}
    assert [path.name for path in tmp_path.iterdir()] == ["sources.lock"]


def test_what_a_lock_holds_is_read_anew_before_it_is_changed(tmp_path):
    first, second = LockedSource("a", "c", {}), LockedSource("a", "d", {})
    seen = []

    def change(current: LockedSource | None) -> LockedSource:
        seen.append(current)
        if len(seen) == 1:
            change_lock(tmp_path, "a", lambda _: first)
        return second

    change_lock(tmp_path, "a", change)
    assert seen == [None, first]
    assert read_lock(tmp_path) == {"a": second}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"repository": "x", "revision": "y", "files": {"f": {"sha256": "0"}}}}',
        '{"\\ud800": {"repository": "x", "revision": "y", "files": {}}}',
        '{"a": {"repository": "\\ud800", "revision": "y", "files": {}}}',
        '{"a": {"repository": "x", "revision": "\\ud800", "files": {}}}',
        f'{{"a": {{"repository": "x", "revision": "y", "files": {{"\\ud800": {LOCKED}}}}}}}',
        f'{{"a": {{"repository": "x", "revision": "y", "files": {{"f": {LOCKED.replace("place", SURROGATE)}}}}}}}',
    ],
)
def test_a_spoilt_lock_is_an_error(tmp_path, content):
    (tmp_path / "sources.lock").write_text(content)
    with pytest.raises(InputError, match=r"sources\.lock.*; fix: mend or delete sources\.lock"):
        read_lock(tmp_path)


@pytest.mark.data
def test_pinned_digests_are_those_of_the_real_files(data_root):
    present = [
        file
        for source in SOURCES.values()
        for file in source.files
        if file.digest and (data_root / file.path).is_file()
    ]
    if not present:
        pytest.skip("real data: no file with a pinned digest")
    for file in present:
        assert isinstance(check_file(data_root / file.path, Expected(None, file.digest, "imprint")), Arrived)
