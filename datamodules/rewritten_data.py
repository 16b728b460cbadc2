"""What are the pairs whose responses were rewritten? The same pairs with other words in their last turns."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from datamodules.preference_data import ContentDigest, PairIndex, PreferenceData
from datamodules.preference_pairs import PreferencePair
from datamodules.rewrites import with_response


def drawn_pairs(pair_ids: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw pairs by a digest of their ids: the same ones on every machine, and more of them contain fewer.

    Args:
        pair_ids: str [n_pairs].
        n: Pairs to draw; all when there are no more.
        seed: Another seed draws others.

    Returns:
        Which pairs are drawn, bool [n_pairs].
    """
    digests = [hashlib.sha256(f"{seed}\0{pair_id}".encode()).digest()[:8] for pair_id in pair_ids.tolist()]
    order = np.argsort(np.frombuffer(b"".join(digests), dtype=">u8"), kind="stable")
    drawn = np.zeros(len(pair_ids), dtype=np.bool_)
    drawn[order[:n]] = True
    return drawn


def rewritten_data(data: PreferenceData, texts: Mapping[tuple[str, str], str]) -> PreferenceData:
    """Return the pairs of which both sides are rewritten, with the rewritten responses.

    Args:
        data: The original pairs; its report stays that of the originals.
        texts: (pair_id, side) -> rewritten response.
    """
    index = data.index
    keyed = zip(index.pair_ids.tolist(), index.sides.tolist(), strict=True)
    kept = np.array([all((pair_id, side) in texts for side in sides) for pair_id, sides in keyed], dtype=np.bool_)
    own = PairIndex(index.pair_ids[kept], index.subsets[kept], index.cluster_ids[kept], index.is_tie[kept])

    def read() -> Iterator[PreferencePair]:
        for pair, is_kept in zip(data.read(), kept, strict=True):
            if is_kept:
                first_text, second_text = (texts[pair.pair_id, side] for side in pair.sides)
                first, second = with_response(pair.first, first_text), with_response(pair.second, second_text)
                yield replace(pair, first=first, second=second)

    digest = ContentDigest()
    for pair in read():
        digest.add(pair)
    return replace(data, index=own, digest=digest.hexdigest(), read=read)
