"""What is audited, and under which key? Audits, data sets and precision of a run."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

import audits
from audits.base import Audit
from audits.resistance import Resistance
from audits.reward_imprint import RewardImprint
from audits.robustness import Robustness
from audits.value_contrast import ValueContrast
from audits.value_disparity import ValueDisparity
from audits.value_distribution import ValueDistribution
from audits.value_space import ValueSpace, has_signed_schwartz, require_signed_schwartz
from datamodules.corpus import AuditCorpus
from datamodules.errors import InputError
from datamodules.files import digest_of
from datamodules.preferences import PreferenceData
from datamodules.target_vectors import read_targets
from datamodules.views import ViewRequest
from models.calibration import Calibration
from models.ensemble import Scorer
from models.precision import resolve_precision
from models.reward_scorers import RewardScorer
from train.audit_config import AuditConfig
from train.audited_data import AuditedData, build_audited_data, find_prompt_groups, open_scorers, require_sources
from train.data_audits import DATA_AUDITS
from train.feature_cache import FeatureCache
from train.feature_classifiers import FeatureModel, open_feature_classifiers, require_other_classifiers
from train.gold import read_gold, say_gold
from train.progress import Progress
from train.value_scorer import require_other_weights

AUDITS = (
    "value-distribution",
    "value-contrast",
    "value-disparity",
    "value-space",
    "reward-imprint",
    "resistance",
    "robustness",
)


@dataclass(frozen=True, slots=True)
class AuditSetup:
    """What is audited, and how it is scored.

    Attributes:
        audits: The audits.
        audited: The preference data sets.
        precision: Number format of scoring, `float32` or `bf16`.
        token_budget: Padded tokens per scoring batch; does not change results beyond rounding.
        code: Digest of the code of `audits/` as it was when the set-up was built.
        noise_floor: Whether to measure what the arithmetic alone moves; no part of the key.
        features: Where the pooled vectors of a frozen encoder are kept, which do not change the scores and so are no
            part of the key; None where the encoder runs for every checkpoint.
    """

    audits: tuple[Audit, ...]
    audited: tuple[AuditedData, ...]
    precision: str
    token_budget: int
    code: str
    noise_floor: bool = False
    features: FeatureCache | None = None

    @property
    def corpora(self) -> tuple[AuditCorpus, ...]:
        """The tokenised data sets."""
        return tuple(audited.corpus for audited in self.audited)

    def key(self, calibration: Calibration, held_out: str = "") -> str:
        """Digest of thresholds, held-out texts, audit set-up, data revision and the code of `audits/`, as hex.

        Args:
            calibration: Temperatures and thresholds.
            held_out: What `held_out_digest` gives: with and without them it is another audit.
        """
        parts = [repr(audit) for audit in self.audits], [audited.digest for audited in self.audited], self.precision
        return digest_of([calibration.to_json(), held_out, parts, self.code])


def code_version() -> str:
    """Return a digest of the source of `audits/`, as hex."""
    folder = Path(audits.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build_audits(config: AuditConfig) -> tuple[Audit, ...]:
    """Build the configured audits of checkpoints; none where all of them need no checkpoint.

    Raises:
        InputError: An unknown audit, or none.
    """
    view = ViewRequest(config.view, config.truncation, config.max_length)
    known = ", ".join((*AUDITS, *DATA_AUDITS))
    chosen: list[Audit] = []
    for name in dict.fromkeys(config.audits):
        match name:
            case "value-distribution":
                chosen.append(ValueDistribution(view=view))
            case "value-contrast":
                chosen.append(ValueContrast(view=view))
            case "value-disparity":
                # What a prompt says of a group must not pass for the answer's.
                chosen.append(ValueDisparity(view=replace(view, view="response")))
            case "value-space":
                targets = read_targets(config.target_vectors, "--audit.target_vectors")
                chosen.append(ValueSpace(view=view, targets=targets))
            case "reward-imprint":
                chosen.append(RewardImprint(view=view))
            case "resistance":
                chosen.append(Resistance(view=view, targets=tuple(config.targets)))
            case "robustness":
                chosen.append(Robustness(view=view))
            case _ if name in DATA_AUDITS:
                pass
            case _:
                raise InputError(f"audit {name!r}", f"one of {known}", "--audit.audits")
    if not config.audits:
        raise InputError("no audit", f"at least one of {known}", "--audit.audits, or --audit.enabled false")
    return tuple(chosen)


def audits_of(labels: Sequence[str], chosen: Sequence[Audit]) -> list[Audit]:
    """Return the audits as they read a taxonomy with these labels.

    Targets among other labels are none of its own, and value-space reads signed Schwartz labels alone.
    """
    return [
        replace(audit, targets=tuple(target for target in audit.targets if target in labels))
        if isinstance(audit, Resistance)
        else audit
        for audit in chosen
        if not isinstance(audit, ValueSpace) or has_signed_schwartz(labels)
    ]


def build_setup(
    config: AuditConfig,
    preferences: Sequence[PreferenceData],
    model: Scorer,
    cache_dir: Path,
    device: torch.device,
    progress: Progress,
    training_texts: np.ndarray | None = None,
    audited_weights: Sequence[str] = (),
) -> AuditSetup:
    """Prepare the preference data for everything that an audit asks for.

    Args:
        config: What to audit.
        preferences: The data sets.
        model: The classifier, whose tokeniser and labels are read.
        cache_dir: Folder of cached tokens, rewards and rewritings.
        device: Where it scores.
        progress: Shows the work.
        training_texts: As `build_audited_data`.
        audited_weights: Digests of the checkpoints to be audited, as far as they are known.

    Raises:
        InputError: A target that is no label, value-space without signed Schwartz labels, feature classifiers without
            reward-imprint, nothing but checkpoints that rewards or features rest on; see `build_audits`,
            `require_sources`, `read_gold`, `open_feature_classifiers` and `build_audited_data`.
    """
    chosen, labels = build_audits(config), model.labels
    if unknown := [target for target in config.targets if target not in labels]:
        raise InputError(f"target {unknown[0]}", f"labels of {', '.join(labels)}", "--audit.targets")
    if any(isinstance(audit, ValueSpace) for audit in chosen) and not any(
        has_signed_schwartz(task.labels) for task in model.further
    ):
        require_signed_schwartz(labels)
    require_sources(config, chosen)
    gold = {} if config.gold is None else read_gold(config.gold, preferences, labels, config.view)
    if config.gold is not None:
        say_gold(gold, [data.name for data in preferences], progress.say)
    sources = config.rewards if any(a.needs_rewards or a.needs_rewrites for a in chosen) else []
    scorers = open_scorers(sources, device, config.target_vectors)
    # What holds features equal is the regression of rewards alone.
    if config.feature_classifiers and not any(isinstance(audit, RewardImprint) for audit in chosen):
        found = f"feature classifiers without the audit {RewardImprint.name}, which alone holds features equal"
        fix = "add it to --audit.audits, or --audit.feature_classifiers=[]"
        raise InputError(found, f"the audit {RewardImprint.name}", fix)
    classifiers = open_feature_classifiers(config.feature_classifiers, device, progress)
    _require_others(audited_weights, scorers.values(), classifiers)
    if training_texts is None:
        progress.say("  not known which texts the classifier was trained on: no pair is left out for that")
    audited = tuple(
        build_audited_data(
            config, data, chosen, model.tokeniser, cache_dir, scorers, progress, training_texts, classifiers
        )
        for data in preferences
    )
    audited = tuple(
        replace(data, gold=own.labels, gold_provenance=own.provenance) if (own := gold.get(name)) else data
        for data, name in zip(audited, [data.name for data in preferences], strict=True)
    )
    if any(isinstance(audit, ValueDisparity) for audit in chosen):
        audited = tuple(replace(own, prompt_groups=find_prompt_groups(own.corpus.data, progress)) for own in audited)
    precision = resolve_precision(config.precision, device)
    return AuditSetup(chosen, audited, precision, config.token_budget, code_version(), config.noise_floor)


def _require_others(
    audited_weights: Sequence[str], scorers: Iterable[RewardScorer], classifiers: Sequence[FeatureModel]
) -> None:
    """Raise InputError, before anything is scored, where every checkpoint to be audited is a reward's or feature's own.

    Where others are to be audited too, those that cannot be are told when their turn comes.
    """
    rewards = [{"scorer": asdict(scorer.identity)} for scorer in scorers]
    features = [{"name": model.name, "weights": model.weights} for model in classifiers]
    errors = []
    for weights in audited_weights:
        try:
            require_other_weights(weights, rewards)
            require_other_classifiers(weights, features)
        except InputError as error:
            errors.append(error)
    if errors and len(errors) == len(audited_weights):
        raise errors[0]
