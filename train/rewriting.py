"""Which responses are rewritten with their meaning kept, and what was lost on the way?"""

from collections import Counter
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from datamodules.errors import InputError
from datamodules.preference_data import PreferenceData
from datamodules.rewrite_endpoint import PROMPT_DIGEST, PROMPT_VERSION, ChatEndpoint, rewrite_by_endpoint
from datamodules.rewrites import (
    Key,
    Rewrite,
    Rewrites,
    pairs_in_file,
    perturbed_rewrites,
    read_rewrites,
    responses_of,
)
from datamodules.rewritten_data import drawn_pairs, rewritten_data
from models.encoder import BUNDLED, load_pretrained
from models.precision import default_device
from models.similarity import gate, similarities
from train.audit_config import RewriteConfig
from train.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class RewrittenPairs:
    """Pairs of which both sides have a usable rewrite; none, where a rewriter gave nothing usable.

    Attributes:
        source: Where the rewrites came from.
        data: The pairs with rewritten responses.
        similarity: Cosine similarity to the original response, float64 [n_kept, 2].
        n_requested: Rewrites that were asked for: responses, times variants of a file.
        left_out: Reason -> rewrites that do not serve. With two for each pair kept they add up to `n_requested`.
    """

    source: str
    data: PreferenceData
    similarity: np.ndarray
    n_requested: int
    left_out: dict[str, int]


def rewrite_pairs(
    config: RewriteConfig, data: PreferenceData, cache_dir: Path, fix: str, progress: Progress
) -> RewrittenPairs:
    """Rewrite the responses of drawn pairs, gate them by similarity, keep pairs of which both sides are left.

    Where no pair is left it is said, and the other audits go on without rewrites.

    Args:
        config: How to rewrite.
        data: The pairs.
        cache_dir: Folder of the answers of an endpoint.
        fix: The setting that asked for rewrites; becomes the `fix` of errors.
        progress: Shows the work.

    Raises:
        InputError: A setting out of range, a file that names none of the pairs, or an endpoint that is not there or
            refuses.
    """
    if config.pairs < 1:
        raise InputError(f"rewrites of {config.pairs} pairs", "at least 1", f"{fix}.pairs")
    # Asked before an endpoint works for hours.
    gate(np.empty(0), config.min_similarity, f"{fix}.min_similarity")
    drawn = _drawn(config, data, fix)
    responses = responses_of(compress(data.read(), drawn))
    made = _rewrites(config, responses, cache_dir, fix, progress)
    for reason, n in made.attrition.not_requested.items():
        progress.say(f"  {n:,} rows of {config.path} not asked for: {reason}")
    left_out = Counter(made.attrition.left_out) + Counter(made.attrition.not_returned)
    texts, cosines = _gated(config, responses, made, left_out, progress)
    kept = rewritten_data(data, texts)
    left_out["other-side-lost"] += len(texts) - 2 * len(kept.index)
    reasons = {reason: n for reason, n in sorted(left_out.items()) if n}
    lost = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items())
    progress.say(
        f"  {data.name}: {len(kept.index):,} of {int(drawn.sum()):,} pairs have both sides rewritten"
        + (f"; responses left out: {lost}" if lost else "")
    )
    if not len(kept.index):
        progress.say(f"  warning: without rewrites there is no robustness of {data.name}")
    similarity = np.array([cosines[key] for pair in kept.read() for key in ((pair.pair_id, s) for s in pair.sides)])
    return RewrittenPairs(_source(config), kept, similarity.reshape(-1, 2), made.attrition.n_requested, reasons)


def _drawn(config: RewriteConfig, data: PreferenceData, fix: str) -> np.ndarray:
    """Tell which pairs are to be rewritten, bool [n_pairs]; a file says by itself which ones it may be."""
    pair_ids = data.index.pair_ids
    if config.source != "file":
        return drawn_pairs(pair_ids, config.pairs, config.seed)
    if config.path is None:
        raise InputError("rewrites from a file without a file", "its path", f"{fix}.path")
    is_named = np.isin(pair_ids, sorted(pairs_in_file(config.path, f"{fix}.path")))
    if not is_named.any():
        found = f"{config.path}, which names none of the {len(pair_ids):,} pairs of {data.name}"
        raise InputError(found, f"their pair_id, such as {str(pair_ids[0])!r}", f"{fix}.path")
    drawn = np.zeros(len(pair_ids), dtype=np.bool_)
    drawn[is_named] = drawn_pairs(pair_ids[is_named], config.pairs, config.seed)
    return drawn


def _rewrites(
    config: RewriteConfig, responses: dict[Key, str], cache_dir: Path, fix: str, progress: Progress
) -> Rewrites:
    match config.source:
        case "perturb":
            return perturbed_rewrites(responses, config.seed, probability=config.probability)
        case "file":
            assert config.path is not None
            return read_rewrites(config.path, responses, f"{fix}.path")
        case "endpoint":
            endpoint = ChatEndpoint(config.url, config.model, config.key_variable, config.seed)
            with progress.bar(f"rewriting by {config.model}", len(responses), "responses") as advance:
                cache = cache_dir / "rewrites.jsonl"
                return rewrite_by_endpoint(responses, endpoint, cache, say=progress.say, on_done=advance)


def _gated(
    config: RewriteConfig, responses: dict[Key, str], made: Rewrites, left_out: Counter[str], progress: Progress
) -> tuple[dict[Key, str], dict[Key, float]]:
    """Return text and similarity of the rewrites that mean what their originals mean, the first variant of each."""
    first: dict[Key, Rewrite] = {}
    for rewrite in made.items:
        first.setdefault((rewrite.pair_id, rewrite.side), rewrite)
    left_out["further-variant"] += len(made.items) - len(first)
    encoder = load_pretrained(BUNDLED)
    originals, rewritten = [responses[key] for key in first], [rewrite.text for rewrite in first.values()]
    with progress.bar("comparing rewrites", 0, "windows") as advance:
        cosines = similarities(originals, rewritten, encoder, device=default_device(), on_batch=advance)
    passed = gate(cosines, config.min_similarity, "--audit.rewrite.min_similarity")
    left_out["too-dissimilar"] += passed.n_below + passed.n_undefined
    keys = list(compress(first, passed.is_kept))
    similarity = dict(zip(keys, cosines[passed.is_kept].tolist(), strict=True))
    return {key: first[key].text for key in keys}, similarity


def _source(config: RewriteConfig) -> str:
    """Say where rewrites come from."""
    match config.source:
        case "perturb":
            return f"perturber, probability {config.probability}, seed {config.seed}"
        case "file":
            return f"{config.path}"
        case "endpoint":
            return f"{config.model}, prompt {PROMPT_VERSION} ({PROMPT_DIGEST[:8]}), seed {config.seed}"
