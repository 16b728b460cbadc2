"""What can be set about audits?

The text below each field is the only help text: the command line and the docs read it from here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datamodules.parts import PartName
from datamodules.views import Truncation, ViewName


@dataclass
class RewardSource:
    """One reward model, or a file of its scores."""

    name: str
    """Name in tables."""
    kind: Literal["checkpoint", "hub", "file", "length", "value-distance"]
    """checkpoint (of `imprint reward fit`), hub (id or folder), file (pair_id, side, reward), length (a control),
    value-distance (how near the values that a fixed signed Schwartz classifier, the path, finds are to a target)."""
    path: str = ""
    """File, folder or hub id; none for `length`."""
    role: Literal["pre", "post", "none"] = "none"
    """pre or post: before or after training on such preferences; at most one of each."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    style: Literal["auto", "pair", "chat"] = "auto"
    """How a hub model reads a dialogue: pair (question, answer), or chat where its tokenizer has a template (auto)."""
    column: str | None = None
    """Output of a hub model with several that is the reward."""
    max_length: int = 512
    """Tokens that a hub model or a value classifier reads."""
    target: str = "ideal"
    """Name of the target vector (`value-distance`)."""
    distance: Literal["smooth", "basealign", "l1", "l2"] = "smooth"
    """Distance to it (`value-distance`); basealign is the published one, whose mask rewards saying nothing."""


@dataclass
class FeatureClassifier:
    """A fixed classifier whose probabilities are features beside those of the text."""

    name: str
    """Begins the names of its features, <name>.<label>."""
    path: str
    """Checkpoint file of another run, such as one on the labels of `hh-quality`; of several taxonomies the first."""
    view: ViewName | None = None
    """Part of each dialogue that it reads; the one that it was trained on when left out."""
    max_length: int | None = None
    """Tokens that it reads; as many as in training when left out."""
    reference: str = ""
    """Label without a feature, which the slopes of the others compare with; of a softmax the first when left out."""


@dataclass
class RewriteConfig:
    """Rewritings with the meaning kept, which the audit `robustness` asks for."""

    source: Literal["perturb", "file", "endpoint"] = "perturb"
    """perturb (small deterministic changes), a file of rewrites, or a chat endpoint."""
    pairs: int = 500
    """Pairs to rewrite, drawn by a digest of their ids."""
    seed: int = 0
    """Seed of the draw and of the perturber."""
    probability: float = 0.5
    """How often the perturber tries each of its operations."""
    path: Path | None = None
    """csv, jsonl or parquet file with pair_id, side and text (`file`)."""
    url: str = "http://localhost:11434"
    """OpenAI-compatible server (`endpoint`); Ollama's own address when left out."""
    model: str = ""
    """Model that the server knows (`endpoint`)."""
    key_variable: str = ""
    """Environment variable with the server's API key; none when left out."""
    min_similarity: float = 0.8
    """Cosine similarity of the bundled encoder below which a rewrite is left out."""


@dataclass
class AuditConfig:
    """What is audited with every checkpoint."""

    enabled: bool = True
    """Audit during the run; `imprint audit RUN_DIR --pending` does it later."""
    datasets: list[str] = field(default_factory=lambda: ["sample-hh-rlhf", "sample-webgpt", "sample-alpaca-gpt4"])
    """Preference data sets: sample-*, hh-rlhf, webgpt, alpaca-gpt4 (under the data root), or a .jsonl file."""
    audits: list[str] = field(default_factory=lambda: ["value-distribution"])
    """Audits to run: value-distribution, value-contrast, value-disparity, value-space, reward-imprint, resistance,
    robustness, at every checkpoint; dataset-quality, refusals, which need no model, once per data set."""
    view: ViewName = "exchange"
    """Part of each dialogue that is read."""
    truncation: Truncation = "head"
    """What a cut of the response keeps; the human turn is cut first."""
    max_length: int = 256
    """Tokens read of each dialogue, special tokens included."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format of scoring; auto takes bf16 where the hardware has it."""
    token_budget: int = 2048
    """Padded tokens per scoring batch."""
    noise_floor: bool = True
    """Score up to 1,000 texts of each set twice more, once a run: what the arithmetic moves is no drift."""
    split: Literal["test", "train"] = "test"
    """File of hh-rlhf to audit."""
    part: PartName = "all"
    """all, or the part of every set's prompts that reward models are trained on, or the held-out part."""
    held_out_fraction: float = 0.5
    """Share of the prompts in the held-out part."""
    part_seed: int = 0
    """Seed of the parts."""
    trained_on: Literal["exclude", "keep"] = "exclude"
    """Pairs that hold a text of training or validation, on which scores look better than they are: exclude them from
    corrected rows, or keep them. (Classifiers without each such text, one per fold, are not trained.)"""
    target_vectors: Path | None = None
    """Target vectors of your own, laid out as datamodules/target_vectors.yaml (`value-space`, `value-distance`)."""
    targets: list[str] = field(default_factory=list)
    """Labels that decide which side the classifier prefers (`resistance`), the first before the others."""
    rewards: list[RewardSource] = field(default_factory=list)
    """Reward models: name, kind, path, role (`reward-imprint`, `resistance`, `robustness`)."""
    features: Path | None = None
    """File of features of your own: pair_id, side and columns of numbers (`reward-imprint`)."""
    feature_classifiers: list[FeatureClassifier] = field(default_factory=list)
    """Fixed classifiers whose probabilities are features, too: name, path (`reward-imprint`)."""
    gold: Path | None = None
    """Labels by people of responses that `imprint gold draw` drew, which correct for the classifier's errors."""
    rewrite: RewriteConfig = field(default_factory=RewriteConfig)
    """Rewritings (`robustness`)."""
