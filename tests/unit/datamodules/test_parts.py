import json

import pytest

from datamodules.errors import InputError
from datamodules.parts import Part
from datamodules.preferences import read_preferences

CLUSTERS = [f"cluster {i}" for i in range(2_000)]


def held_out(part: Part) -> list[str]:
    return [cluster for cluster in CLUSTERS if part.holds(cluster)]


def test_every_cluster_is_in_one_part_and_the_share_is_as_asked():
    for fraction in (0.1, 0.5, 0.8):
        train, rest = held_out(Part("train", fraction)), held_out(Part("held-out", fraction))
        assert sorted(train + rest) == sorted(CLUSTERS)
        # Three standard deviations of a binomial share of 2,000.
        assert abs(len(rest) / len(CLUSTERS) - fraction) < 3 * (fraction * (1 - fraction) / len(CLUSTERS)) ** 0.5
    assert held_out(Part()) == CLUSTERS


def test_a_larger_held_out_share_keeps_what_was_held_out_and_another_seed_draws_anew():
    assert set(held_out(Part("held-out", 0.2))) < set(held_out(Part("held-out", 0.6)))
    assert held_out(Part("held-out", 0.5, seed=1)) != held_out(Part("held-out", 0.5))
    # Pinned: a run that was trained on a part must find the same part later.
    assert held_out(Part("held-out", 0.5))[:4] == ["cluster 0", "cluster 4", "cluster 6", "cluster 10"]


@pytest.mark.parametrize(("fields", "text"), [({"name": "test"}, "part 'test'"), ({"held_out_fraction": 1}, "1")])
def test_mistakes_are_told(fields, text):
    with pytest.raises(InputError, match=text):
        Part(**fields)


def test_reading_a_part_keeps_ids_and_counts_the_rest(tmp_path):
    def row(i):
        return {side: f"\n\nHuman: q{i % 20}\n\nAssistant: {side} {i}" for side in ("chosen", "rejected")}

    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(60)))
    whole = read_preferences(str(path), None)
    parts = [read_preferences(str(path), None, part=Part(name)) for name in ("train", "held-out")]
    ids = [set(part.index.pair_ids) for part in parts]
    assert ids[0] | ids[1] == set(whole.index.pair_ids)
    assert not ids[0] & ids[1]
    assert not set(parts[0].index.cluster_ids) & set(parts[1].index.cluster_ids)
    for part in parts:
        assert part.report.n_read == 60
        assert part.report.n_pairs + part.report.n_other_part == 60
        assert [pair.pair_id for pair in part.read()] == part.index.pair_ids.tolist()
        assert part.digest != whole.digest
        assert f"{part.report.n_other_part} pairs in the other part" in "\n".join(part.report.lines())
