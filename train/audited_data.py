"""What of a preference data set is audited: its tokens, rewards, text features and rewritings?

None of it depends on the classifier: it is made once, before the first audit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audits.base import Audit, GoldLabels, PromptGroups, Reward, TextFeatures
from datamodules.corpus import AuditCorpus, build_corpus
from datamodules.errors import InputError
from datamodules.feature_file import read_feature_file
from datamodules.files import digest_of, file_digest
from datamodules.identity_terms import identity_terms
from datamodules.overlap import trained_on
from datamodules.portions import portions
from datamodules.preference_data import PreferenceData
from datamodules.prompt_groups import named_terms
from datamodules.target_vectors import find_target
from datamodules.text_features import FEATURES, text_features
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.reward_scorers import RewardScorer, ScorerSpec, open_scorer
from train.audit_config import AuditConfig, RewardSource
from train.feature_classifiers import FeatureModel, with_classifiers
from train.progress import Progress
from train.reward_scores import file_rewards, reward_scores
from train.rewriting import RewrittenPairs, rewrite_pairs
from train.value_scorer import open_value_scorer

# What is regressed on, of all that can be measured on a text; the others say the same in another unit.
TEXT_FEATURES = (
    "log_n_words",
    "refusal_phrase",
    "hedges_per_100_words",
    "list_line_share",
    "has_markdown",
    "n_question_marks",
    "sentiment",
    "lexical_diversity",
)
LENGTH = "log_n_words"


@dataclass(frozen=True, slots=True, eq=False)
class AuditedReward:
    """One reward of a data set, in its role.

    Attributes:
        reward: As audits read it.
        provenance: Where it comes from, JSON-able.
        digest: What the scores depend on.
    """

    reward: Reward
    provenance: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class AuditedData:
    """One preference data set as the audits see it.

    Attributes:
        corpus: Its tokens under all views.
        rewards: What reward models gave, with their provenance.
        text_features: What was measured on the responses; None where no audit asks for it.
        features_digest: What further features depend on: the user's own file, classifiers; empty without any.
        rewritten: Pairs with rewritten responses; None where no audit asks for them.
        rewritten_data: The rewritten pairs as audited data; None where no pair is left.
        trained_on: Whether the classifier was trained on a text of the pair, bool [n_pairs]; None where unknown.
        gold: Labels by people of a sample of its responses; None where there are none.
        gold_provenance: Where these come from, how many there are and how well annotators agreed, JSON-able.
        feature_records: Of each classifier whose probabilities are features, where these come from, JSON-able.
    """

    corpus: AuditCorpus
    rewards: tuple[AuditedReward, ...] = ()
    text_features: TextFeatures | None = None
    features_digest: str = ""
    rewritten: RewrittenPairs | None = None
    rewritten_data: "AuditedData | None" = None
    trained_on: np.ndarray | None = None
    gold: GoldLabels | None = None
    gold_provenance: dict[str, Any] | None = None
    prompt_groups: PromptGroups | None = None
    feature_records: tuple[dict[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        """Digest of all that an audit reads, besides the classifier's scores."""
        features = [(f.name, f.definition) for f in FEATURES] if self.text_features is not None else None
        rewards = [(own.reward.name, own.reward.role, own.digest) for own in self.rewards]
        parts: list[Any] = [self.corpus.digest, rewards, features, self.features_digest]
        if self.rewritten is not None:
            counts = [self.rewritten.n_requested, self.rewritten.left_out]
            own = self.rewritten_data.digest if self.rewritten_data is not None else ""
            parts += [own, counts, self.rewritten.similarity.round(6).tolist()]
        parts.append(None if self.trained_on is None else np.flatnonzero(self.trained_on).tolist())
        parts.append(None if self.gold is None else _gold_parts(self.gold))
        if (groups := self.prompt_groups) is not None:
            parts.append([groups.terms, groups.groups, groups.group_of, np.flatnonzero(groups.named).tolist()])
        return digest_of(parts)


def _gold_parts(gold: GoldLabels) -> list[Any]:
    """What of gold labels an audit reads: which sides have them, which, and how surely they were drawn."""
    has = gold.has
    return [np.flatnonzero(has).tolist(), gold.labels[has].tolist(), gold.probability[has].tolist()]


def require_sources(config: AuditConfig, audits: Sequence[Audit]) -> None:
    """Check that what the audits need is configured, and unambiguous.

    Raises:
        InputError: An audit of rewards without a reward, two of one name or in one role, or one without name or path.
    """
    names = [source.name for source in config.rewards]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"two rewards named {twice[0]}", "distinct names", "--audit.rewards")
    if "" in (name.strip() for name in names):
        raise InputError("a reward without a name", "the name that tables give it", "--audit.rewards")
    if pathless := [source.name for source in config.rewards if source.kind != "length" and not source.path]:
        found = f"reward {pathless[0]} without a path"
        raise InputError(found, "the file, folder or hub id that it comes from", "--audit.rewards")
    for role in ("pre", "post"):
        holders = [source.name for source in config.rewards if source.role == role]
        if len(holders) > 1:
            found = f"{' and '.join(holders)} in the role {role}"
            raise InputError(found, "one reward in each of the roles pre and post", "--audit.rewards")
    role_names = {source.role: source.name for source in config.rewards}
    change = f"{role_names.get('post')}-{role_names.get('pre')}"
    if change in names:
        found = f"a reward named {change}, as tables call the change from {role_names['pre']} to {role_names['post']}"
        raise InputError(found, "another name", "--audit.rewards")
    needing = [audit.name for audit in audits if audit.needs_rewards]
    if needing and not config.rewards:
        raise InputError(f"audit {needing[0]} without a reward", "at least one", "--audit.rewards, or leave it out")


def build_audited_data(
    config: AuditConfig,
    data: PreferenceData,
    audits: Sequence[Audit],
    tokeniser: Tokeniser,
    cache_dir: Path,
    scorers: Mapping[str, RewardScorer],
    progress: Progress,
    training_texts: np.ndarray | None = None,
    classifiers: Sequence[FeatureModel] = (),
) -> AuditedData:
    """Tokenise a data set, score its rewards, measure its texts and rewrite its responses, as far as audits ask for it.

    Args:
        config: What to audit, and with which rewards and rewritings.
        data: The pairs.
        audits: The audits.
        tokeniser: The classifier's.
        cache_dir: Folder of cached tokens, rewards and rewritings.
        scorers: The reward models by name, of `open_scorers`.
        progress: Shows the work.
        training_texts: Digests of the texts that the classifier was trained on; None where they are unknown.
        classifiers: Those whose probabilities are features, too.

    Raises:
        InputError: Two features of one name, or a reward or a rewriting that gives nothing.
    """
    # The configured view first, whichever audit asks first: drift, gold labels and exports read the first one.
    own_view = ViewRequest(config.view, config.truncation, config.max_length)
    views = sorted(dict.fromkeys(view for audit in audits for view in audit.requests()), key=lambda v: v != own_view)
    needs_rewards = any(audit.needs_rewards for audit in audits)
    needs_rewrites = any(audit.needs_rewrites for audit in audits)
    corpus = _tokenised(data, views, tokeniser, cache_dir, progress)
    marks = _marked(config, data, training_texts, progress)
    sources = config.rewards if needs_rewards or needs_rewrites else []
    rewards = tuple(_reward(source, scorers, data, cache_dir, progress) for source in sources)
    features, features_digest = None, ""
    records: tuple[dict[str, Any], ...] = ()
    if any(audit.needs_text_features for audit in audits):
        features = _measured(data, progress)
        if config.features is not None:
            features = _with_own(features, config.features, data, progress)
            features_digest = file_digest(config.features)
        if classifiers:
            features, records = with_classifiers(features, classifiers, data, config, cache_dir, progress)
            own_digests = [[record["digest"], record["features"], record["n_pairs_left_out"]] for record in records]
            features_digest = digest_of([features_digest, own_digests])
    audited = AuditedData(corpus, rewards, features, features_digest, trained_on=marks, feature_records=records)
    if not needs_rewrites:
        return audited
    rewritten = rewrite_pairs(config.rewrite, data, cache_dir, "--audit.rewrite", progress)
    audited = replace(audited, rewritten=rewritten)
    if not len(rewritten.data.index):
        return audited
    own_corpus = _tokenised(rewritten.data, views, tokeniser, cache_dir, progress)
    # A file holds scores of the original responses only.
    again = [source for source in sources if source.kind != "file"]
    own_rewards = tuple(_reward(source, scorers, rewritten.data, cache_dir, progress) for source in again)
    own = AuditedData(own_corpus, own_rewards, trained_on=_inherited(marks, data, rewritten.data))
    return replace(audited, rewritten_data=own)


def _tokenised(
    data: PreferenceData, views: list[ViewRequest], tokeniser: Tokeniser, cache_dir: Path, progress: Progress
) -> AuditCorpus:
    with progress.bar(f"tokenising {data.name}", len(data.index), "pairs") as advance:
        return build_corpus(data, views, tokeniser, cache_dir, advance)


def _marked(
    config: AuditConfig, data: PreferenceData, training_texts: np.ndarray | None, progress: Progress
) -> np.ndarray | None:
    """Mark the pairs with a text that the classifier was trained on, bool [n_pairs], and say how many they are."""
    if training_texts is None:
        return None
    with progress.bar(f"looking for training texts in {data.name}", len(data.index), "pairs") as advance:
        marks = trained_on(data, training_texts, advance)
    share = f"{int(marks.sum()):,} of {len(marks):,} pairs of {data.name}"
    found = f"{share} hold a text that the classifier was trained on"
    keep = config.trained_on == "keep"
    if marks.any() and keep:
        progress.say(f"  warning: {found}; they are kept, so what is said of them looks better than it is")
    elif marks.any():
        progress.say(f"  {found}; they are left out of corrected rows")
    return None if keep else marks


def find_prompt_groups(data: PreferenceData, progress: Progress) -> PromptGroups:
    """Look for the groups of people that the prompts of pairs name, and say how many do."""
    terms = identity_terms()
    with progress.bar(f"looking for groups named in {data.name}", len(data.index), "pairs") as advance:
        found = PromptGroups(terms.terms, terms.groups, terms.group_of, named_terms(data, advance))
    n = int(found.any_named.sum())
    progress.say(f"  {n:,} of {len(data.index):,} prompts of {data.name} name a group of people ({terms.name} terms)")
    return found


def _inherited(marks: np.ndarray | None, data: PreferenceData, rewritten: PreferenceData) -> np.ndarray | None:
    """Give rewritten pairs the marks of their originals: their words are new, their meaning is not."""
    if marks is None:
        return None
    position = {pair_id: i for i, pair_id in enumerate(data.index.pair_ids.tolist())}
    return marks[[position[pair_id] for pair_id in rewritten.index.pair_ids.tolist()]]


def open_scorers(
    sources: Sequence[RewardSource], device: torch.device, target_vectors: Path | None = None
) -> dict[str, RewardScorer]:
    """Load the reward models by name; a file of scores needs none.

    Args:
        sources: The reward models.
        device: Where they score.
        target_vectors: File with targets of the user's own, for distances of values.

    Raises:
        InputError: A reward model that does not load.
    """
    scorers: dict[str, RewardScorer] = {}
    for source in sources:
        fix = f"--audit.rewards ({source.name})"
        if source.kind == "value-distance":
            target = find_target(source.target, target_vectors, fix)
            path = Path(source.path)
            scorers[source.name] = open_value_scorer(
                source.name, path, target, source.distance, source.max_length, device, fix
            )
        elif source.kind != "file":
            spec = ScorerSpec(
                source.name,
                source.kind,
                source.path,
                revision=source.revision,
                style=source.style,
                column=source.column,
                max_length=source.max_length,
            )
            scorers[source.name] = open_scorer(spec, device, fix)
    return scorers


def _reward(
    source: RewardSource,
    scorers: Mapping[str, RewardScorer],
    data: PreferenceData,
    cache_dir: Path,
    progress: Progress,
) -> AuditedReward:
    if source.kind == "file":
        found, report = file_rewards(data, source.name, Path(source.path), f"--audit.rewards ({source.name})")
        for line in report.lines():
            progress.say(f"  {line}")
    else:
        found = reward_scores(data, scorers[source.name], cache_dir, progress)
    if n_seen := int(found.is_trained_on.sum()):
        progress.say(f"  warning: {source.name} was trained on {n_seen:,} of {len(data.index):,} pairs of {data.name}")
    provenance = found.provenance | {"role": source.role}
    return AuditedReward(Reward(source.name, source.role, found.rewards), provenance, found.digest)


def _measured(data: PreferenceData, progress: Progress) -> TextFeatures:
    """Measure the responses of both sides of every pair."""
    blocks = []
    with progress.bar(f"measuring {data.name}", len(data.index), "pairs") as advance:
        sides = ((pair.first.response, pair.second.response) for pair in data.read())
        for portion in portions(sides, lambda pair: len(pair[0]) + len(pair[1])):
            names, values = text_features(list(chain.from_iterable(portion)))
            columns = [names.index(name) for name in TEXT_FEATURES]
            blocks.append(values[:, columns].reshape(len(portion), 2, len(columns)))
            advance(len(portion))
    return TextFeatures(TEXT_FEATURES, np.concatenate(blocks), LENGTH)


def _with_own(features: TextFeatures, path: Path, data: PreferenceData, progress: Progress) -> TextFeatures:
    """Add the features of a user's own file."""
    fix = "--audit.features"
    names, values, lines = read_feature_file(path, data.index, fix, data.name)
    if taken := [name for name in names if name in features.names]:
        raise InputError(f"a column {taken[0]} in {path}", "names that no text feature has", f"rename it, or {fix}")
    for line in lines:
        progress.say(f"  {data.name}, {line}")
    joined = np.concatenate([features.values, values], axis=2)
    return TextFeatures((*features.names, *names), joined, features.length_name)
