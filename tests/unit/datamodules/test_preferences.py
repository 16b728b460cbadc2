"""Readers of preference data: layouts, counts, ids, clusters and refusals, on tiny files in the native layouts."""

import gzip
import json

import pytest

from datamodules.dialogue import Dialogue, Turn
from datamodules.errors import InputError
from datamodules.preferences import cluster_of, read_preferences


def hh(*texts: str) -> str:
    """A dialogue in the hh-rlhf layout, the human first."""
    return "".join(f"\n\n{'Human' if i % 2 == 0 else 'Assistant'}: {text}" for i, text in enumerate(texts))


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_array(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_rows(tmp_path, *rows, **options):
    return read_preferences(str(write_lines(tmp_path / "mine.jsonl", rows)), None, **options)


def answers(data):
    return [(pair.first.response, pair.second.response) for pair in data.read()]


GOOD = {"chosen": hh("q", "yes"), "rejected": hh("q", "no")}
WEBGPT = {
    "question": {"dataset": "eli5", "id": "x", "full_text": "Why?"},
    "answer_0": "low",
    "answer_1": "high",
    "score_0": -0.5,
    "score_1": 0.5,
}


class TestHhRlhf:
    def test_all_subsets_that_are_present_are_read(self, tmp_path):
        write_lines(
            tmp_path / "hh-rlhf/harmless-base/test.jsonl.gz", [GOOD, {**GOOD, "chosen": hh("q", "a", "r", "b")}]
        )
        write_lines(tmp_path / "hh-rlhf/helpful-online/test.jsonl", [GOOD])
        data = read_preferences("hh-rlhf", tmp_path)
        assert [pair.pair_id for pair in data.read()] == ["harmless-base-0", "harmless-base-1", "helpful-online-0"]
        assert [pair.subset for pair in data.read()] == ["harmless-base", "harmless-base", "helpful-online"]
        assert {name: counts.n_pairs for name, counts in data.report.subsets.items()} == {
            "harmless-base": 2,
            "helpful-online": 1,
        }
        assert list(data.report.files) == [
            "hh-rlhf/harmless-base/test.jsonl.gz",
            "hh-rlhf/helpful-online/test.jsonl",
        ]
        assert next(data.read()).sides == ("chosen", "rejected")
        assert answers(data) == [("yes", "no"), ("b", "no"), ("yes", "no")]

    def test_other_splits_have_ids_of_their_own(self, tmp_path):
        write_lines(tmp_path / "hh-rlhf/helpful-base/test.jsonl", [GOOD])
        write_lines(tmp_path / "hh-rlhf/helpful-base/train.jsonl.gz", [GOOD])
        assert read_preferences("hh-rlhf", tmp_path, split="train").index.pair_ids[0] == "helpful-base-train-0"

    def test_a_missing_split_names_the_expected_file(self, tmp_path):
        write_lines(tmp_path / "hh-rlhf/helpful-base/test.jsonl", [GOOD])
        with pytest.raises(InputError) as caught:
            read_preferences("hh-rlhf", tmp_path, split="train")
        assert "'train'" in caught.value.found
        assert str(tmp_path / "hh-rlhf") in caught.value.needed
        assert "--data.root" in caught.value.fix
        assert "IMPRINT_DATA" in caught.value.fix


class TestScoredData:
    def test_webgpt_upstream(self, tmp_path):
        write_lines(
            tmp_path / "webgpt/comparisons.jsonl", [WEBGPT, {**WEBGPT, "score_0": 0.5}, {**WEBGPT, "score_0": None}]
        )
        data = read_preferences("webgpt", tmp_path)
        assert answers(data) == [("high", "low"), ("low", "high")]
        assert [pair.sides for pair in data.read()] == [("chosen", "rejected"), ("a", "b")]
        assert [pair.pair_id for pair in data.read()] == ["webgpt-0", "webgpt-1"]
        assert (data.report.n_ties, data.report.unparsable, data.report.subsets) == (1, {"score-not-a-number": 1}, {})

    def test_several_webgpt_files_number_their_rows_on(self, tmp_path):
        write_lines(tmp_path / "webgpt/a.jsonl", [WEBGPT])
        write_lines(tmp_path / "webgpt/b.jsonl", [WEBGPT])
        data = read_preferences("webgpt", tmp_path)
        assert [pair.pair_id for pair in data.read()] == ["webgpt-0", "webgpt-1"]
        assert list(data.report.files) == ["webgpt/a.jsonl", "webgpt/b.jsonl"]

    def test_webgpt_local_copy(self, tmp_path):
        texts = [f"## Human:\nWhy?\n\n\n\n## Assistant:\n {answer}" for answer in ("one", "two")]
        write_array(tmp_path / "webgpt/webgpt.test.json", [{"text": texts, "score": [0.5, 1.5]}])
        assert answers(read_preferences("webgpt", tmp_path)) == [("two", "one")]

    def test_alpaca_upstream(self, tmp_path):
        scored = [{"response": f"r{i}", "score": score} for i, score in enumerate((5, 9, 4))]
        row = {"user_input": "### Instruction:\nSing.\n\n### Response:", "responses_and_scores": scored}
        write_array(tmp_path / "alpaca-gpt4/comparison_data_v2.json", [row])
        data = read_preferences("alpaca-gpt4", tmp_path)
        assert [(pair.pair_id, pair.first.render()) for pair in data.read()] == [
            ("alpaca-gpt4-0", "Human: Sing.\n\nAssistant: r1")
        ]
        every = read_preferences("alpaca-gpt4", tmp_path, all_pairs=True)
        assert [pair.pair_id for pair in every.read()] == [
            "alpaca-gpt4-0-0-2",
            "alpaca-gpt4-0-1-0",
            "alpaca-gpt4-0-1-2",
        ]
        assert (every.report.n_read, every.report.n_pairs, every.report.n_clusters) == (1, 3, 1)

    def test_alpaca_local_copy(self, tmp_path):
        rows = [{"instruction": "Sing.", "input": "", "output": ["La", ""]}]
        write_array(tmp_path / "alpaca-gpt4/comparison_gpt4_data_en.json", rows)
        assert answers(read_preferences("alpaca-gpt4", tmp_path)) == [("La", "")]

    def test_upstream_files_go_before_local_copies(self, tmp_path):
        write_lines(tmp_path / "webgpt/comparisons.jsonl", [WEBGPT])
        write_array(tmp_path / "webgpt/webgpt.test.json", [])
        assert list(read_preferences("webgpt", tmp_path).report.files) == ["webgpt/comparisons.jsonl"]

    def test_a_layout_of_another_data_set_is_refused(self, tmp_path):
        write_array(tmp_path / "alpaca-gpt4/comparison_data_v2.json", [WEBGPT])
        with pytest.raises(InputError) as caught:
            read_preferences("alpaca-gpt4", tmp_path)
        assert "answer_0, answer_1, question, score_0, score_1" in caught.value.found
        assert "user_input, responses_and_scores; or instruction, output" in caught.value.needed


class TestGenericLines:
    def test_name_is_the_stem_and_rows_may_bring_id_subset_group_and_tie(self, tmp_path):
        rows = [
            {**GOOD, "pair_id": "p", "subset": "s", "group": "g", "tie": True},
            {**GOOD, "pair_id": 7, "group": "g", "tie": False},
            {**GOOD, "pair_id": None, "subset": None, "group": None, "tie": None},
        ]
        data = read_rows(tmp_path, *rows)
        assert data.name == "mine"
        assert [pair.pair_id for pair in data.read()] == ["p", "7", "mine-2"]
        assert [pair.subset for pair in data.read()] == ["s", "", ""]
        assert [pair.cluster_id for pair in data.read()] == ["g", "g", cluster_of(next(data.read()).first)]
        assert [pair.sides for pair in data.read()] == [("a", "b"), ("chosen", "rejected"), ("chosen", "rejected")]
        assert list(data.report.files) == ["mine.jsonl"]
        assert list(data.report.subsets) == ["s"]

    def test_gzipped_lines(self, tmp_path):
        path = write_lines(tmp_path / "mine.jsonl.gz", [GOOD])
        assert read_preferences(str(path), None).name == "mine"

    def test_other_known_layouts_are_recognised(self, tmp_path):
        data = read_rows(tmp_path, WEBGPT, {"instruction": "i", "output": ["b", "w"]}, GOOD)
        assert answers(data) == [("high", "low"), ("b", "w"), ("yes", "no")]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"chosen": hh("q", "a")}, "missing-field"),
            ({**GOOD, "chosen": hh("q", "a", "r")}, "ends-with-human"),
            ({**GOOD, "rejected": None}, "not-a-string"),
            ({**GOOD, "pair_id": 1.5}, "pair-id-not-a-label"),
            ({**GOOD, "group": float("nan")}, "group-not-a-label"),
        ],
    )
    def test_rows_that_state_no_pair_are_left_out_and_counted(self, tmp_path, row, reason):
        data = read_rows(tmp_path, row, GOOD)
        assert (data.report.unparsable, data.report.n_read, data.report.n_pairs) == ({reason: 1}, 2, 1)
        assert data.index.pair_ids[0] == "mine-1"

    def test_ids_that_occur_twice_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="'p'"):
            read_rows(tmp_path, {**GOOD, "pair_id": "p"}, {**GOOD, "pair_id": "p"})
        with pytest.raises(InputError, match="'mine-1'"):
            read_rows(tmp_path, {**GOOD, "pair_id": "mine-1"}, GOOD)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no rows"),
            (b'{"a": 1, "b": 2}\n', "the fields a, b .*prompt, chosen, rejected; or chosen, rejected"),
            (b'{"chosen": 1, "rejected": 2}\n', "no usable pair .*not-a-string 1"),
            (b"{\n", "line 1, is not JSON"),
            (b'{"chosen": "\xff"}\n', "not UTF-8"),
        ],
    )
    def test_files_without_pairs_are_refused(self, tmp_path, content, message):
        path = tmp_path / "mine.jsonl"
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_preferences(str(path), None)


class TestReport:
    def test_unusual_pairs_are_kept_and_counted(self, tmp_path):
        rows = [
            GOOD,
            {"chosen": hh("Q ", "YES"), "rejected": hh("q", "no")},
            {"chosen": GOOD["rejected"], "rejected": GOOD["chosen"]},
            {"chosen": hh("same", "same"), "rejected": hh("same", "same ")},
            {"chosen": hh("other", "a"), "rejected": hh("another", "b")},
            {"chosen": hh("x", "a") + "\n\nAssistant: b", "rejected": hh("x", "")},
            {"chosen": hh("t", ""), "rejected": hh("t", "u"), "tie": True},
        ]
        report = read_rows(tmp_path, *rows).report
        assert report.n_read == report.n_pairs == 7
        assert report.n_duplicate_pairs == 1, "the second row repeats the first but for case and space"
        assert report.n_repeated_prompts == 2, "the second and third row repeat the prompt of the first"
        assert report.n_identical_pairs == 1
        assert report.n_prompts_differ == 3, "Q against q, other against another, and the answer in two turns"
        assert report.n_repeated_roles == 1
        assert report.n_empty_responses == {"chosen": 0, "rejected": 1, "a": 1, "b": 0}
        assert (report.n_ties, report.n_clusters, report.unparsable) == (1, 5, {})

    def test_counts_within_subsets_do_not_mix(self, tmp_path):
        report = read_rows(tmp_path, {**GOOD, "subset": "s"}, {**GOOD, "subset": "t"}).report
        assert report.n_duplicate_pairs == 1
        assert [counts.n_duplicate_pairs for counts in report.subsets.values()] == [0, 0]

    def test_report_is_json_and_lines(self, tmp_path):
        rows = [{**GOOD, "subset": f"subset-{i}"} for i in range(3)]
        report = read_rows(tmp_path, *rows, {"chosen": hh("t", ""), "rejected": "", "tie": True}).report
        assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["subsets"]["subset-2"]["n_pairs"] == 1
        lines = report.lines()
        assert "4 rows read: 3 pairs in 1 clusters; 2 duplicates; 2 repeating a prompt" in lines
        assert "1 rows left out: empty-text 1" in lines

    def test_long_lines_are_wrapped(self, tmp_path):
        rows = [{"chosen": hh("q", ""), "rejected": hh("q", ""), "tie": i > 1, "subset": "s" * 60} for i in range(4)]
        lines = read_rows(tmp_path, *rows).report.lines()
        assert any(line.startswith("    ") for line in lines)
        assert max(map(len, lines)) <= 100


class TestIdentity:
    def test_digest_is_of_the_content(self, tmp_path):
        digest = read_rows(tmp_path, GOOD).digest
        assert read_rows(tmp_path, {**GOOD, "chosen": hh("q", "yes ")}).digest == digest
        changed = [{**GOOD, "chosen": hh("q", "yes!")}, {**GOOD, "tie": True}, {**GOOD, "pair_id": "x"}]
        assert len({digest, *(read_rows(tmp_path, row).digest for row in changed)}) == 4

    def test_clusters_share_an_opening_not_a_prompt(self):
        def turns(*texts):
            return Dialogue(tuple(Turn("human" if i % 2 == 0 else "assistant", t) for i, t in enumerate(texts)))

        short, long = turns("Hello  there", "a"), turns("hello there", "a", "more", "b")
        assert cluster_of(short) == cluster_of(long) != cluster_of(turns("Hello you", "a"))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "n_needed"), [("sample-hh-rlhf", 30), ("sample-webgpt", 30), ("sample-alpaca-gpt4", 30)]
    )
    def test_samples_are_embedded_and_lose_no_row(self, name, n_needed):
        data = read_preferences(name, None)
        assert data.is_sample
        assert data.name == name
        assert data.report.unparsable == {}
        assert len(data.index) == data.report.n_read >= n_needed

    @pytest.mark.parametrize("name", ["hh-rlhf", "webgpt", "alpaca-gpt4"])
    def test_published_data_need_a_root_with_the_file(self, tmp_path, name):
        for root in (None, tmp_path / "absent", tmp_path):
            with pytest.raises(InputError) as caught:
                read_preferences(name, root)
            assert "--data.root" in caught.value.fix
            assert "IMPRINT_DATA" in caught.value.fix
            assert name in caught.value.needed

    @pytest.mark.parametrize("name", ["hhrlhf", "sample", "", "pairs.csv"])
    def test_unknown_names_list_the_known_ones(self, name):
        with pytest.raises(InputError, match=r"hh-rlhf, webgpt or alpaca-gpt4.*\.jsonl"):
            read_preferences(name, None)

    def test_a_missing_path_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"no file at .*absent\.jsonl"):
            read_preferences(str(tmp_path / "absent.jsonl"), None)


@pytest.mark.parametrize("field", ["pair_id", "subset", "group"])
@pytest.mark.parametrize("label", ["w" * 201, 10**200])
def test_a_row_with_an_endless_label_is_left_out(tmp_path, field, label):
    """One wide cell would widen every cell of an array: 20,001 rows took 15 GiB."""
    data = read_rows(tmp_path, GOOD, {**GOOD, field: label}, {**GOOD, field: "w" * 200})
    assert data.report.unparsable == {f"{field.replace('_', '-')}-above-200-characters": 1}
    assert len(data.index) == 2


def test_rows_without_fields_are_rows(tmp_path):
    with pytest.raises(InputError, match=r"found 2 rows with the fields none in .*mine\.jsonl; needed the fields "):
        read_rows(tmp_path, {}, {})
    with pytest.raises(InputError, match="found no rows in"):
        read_rows(tmp_path)
