"""Which responses are rewritten with their meaning kept, and what was lost on the way?"""

from collections import Counter
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from datamodules.errors import InputError
from datamodules.preference_data import PreferenceData
from datamodules.rewrite_endpoint import PROMPT_DIGEST, PROMPT_VERSION, ChatEndpoint, rewrite_by_endpoint
from datamodules.rewrites import Key, Rewrite, Rewrites, perturbed_rewrites, read_rewrites, responses_of
from datamodules.rewritten_data import drawn_pairs, rewritten_data
from models.encoder import BUNDLED, load_pretrained
from models.precision import default_device
from models.similarity import gate, similarities
from train.config import RewriteConfig
from train.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class RewrittenPairs:
    """Pairs of which both sides have a usable rewrite.

    Attributes:
        source: Where the rewrites came from.
        data: The pairs with rewritten responses.
        similarity: Cosine similarity to the original response, float64 [n_kept, 2].
        n_requested: Responses that were to be rewritten.
        left_out: Reason -> responses lost.
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

    Args:
        config: How to rewrite.
        data: The pairs.
        cache_dir: Folder of the answers of an endpoint.
        fix: The setting that asked for rewrites; becomes the `fix` of errors.
        progress: Shows the work.

    Raises:
        InputError: A file or an endpoint that gives nothing, or no pair left.
    """
    drawn = drawn_pairs(data.index.pair_ids, config.pairs, config.seed)
    responses = responses_of(compress(data.read(), drawn))
    made = _rewrites(config, responses, cache_dir, progress)
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
        found = f"no pair of {data.name} of which both sides have a usable rewrite ({lost})"
        raise InputError(found, "at least one", fix)
    similarity = np.array([cosines[key] for pair in kept.read() for key in ((pair.pair_id, s) for s in pair.sides)])
    return RewrittenPairs(_source(config), kept, similarity.reshape(-1, 2), made.attrition.n_requested, reasons)


def _rewrites(config: RewriteConfig, responses: dict[Key, str], cache_dir: Path, progress: Progress) -> Rewrites:
    match config.source:
        case "perturb":
            return perturbed_rewrites(responses, config.seed, probability=config.probability)
        case "file":
            if config.path is None:
                raise InputError("rewrites from a file without a file", "its path", "--audit.rewrite.path")
            return read_rewrites(config.path, responses, "--audit.rewrite.path")
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
