"""What can be set?

What is set about audits is in audit_config.py. The text below each field is the only help text: the command line and
the docs read it from here.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from datamodules.views import Truncation, ViewName
from train.audit_config import AuditConfig


@dataclass
class FurtherData:
    """Another data set that is trained on too: the same encoder, but a taxonomy and a head of its own."""

    name: Literal["sample", "value-imprint", "fulcra", "valueeval", "hh-quality", "table"]
    """As data.name; columns of a table, view, fractions and split_seed are those of the first data set."""
    path: Path | None = None
    """As data.path."""
    taxonomy: str | None = None
    """As data.taxonomy; another one than that of the first data set."""
    loss: Literal["bce", "wan", "an-ls", "asl", "softmax"] | None = None
    """As model.loss; bce, or wan where no negatives are known, when left out."""
    class_weights: Literal["none", "sqrt", "inverse", "effective"] = "none"
    """As model.class_weights."""
    weight: float = 1.0
    """How much the loss of a text of it counts, where a text of the first data set counts 1. (wan adds up the labels
    of a text, the other losses average them.)"""


@dataclass
class DataConfig:
    """Annotated texts."""

    name: Literal["sample", "value-imprint", "fulcra", "valueeval", "hh-quality", "table"] = "sample"
    """Annotated texts to train on: the embedded sample, a published layout, or a table of your own."""
    path: Path | None = None
    """File with the texts, where it is not in the data root (needed for `table`)."""
    root: Path | None = None
    """Folder with real data sets; the environment variable IMPRINT_DATA when left out."""
    taxonomy: str | None = None
    """value-imprint, schwartz, valueeval, hh-quality or a YAML file; the data set's own one when left out."""
    text_column: str = "text"
    """Column with the text (`table` only)."""
    label_column: str | None = None
    """Column with the list of labels (`table` only); one 0/1 column per label when left out."""
    group_column: str | None = None
    """Column with a group that must not straddle splits (`table` only)."""
    id_column: str | None = None
    """Column with unique ids (`table` only)."""
    view: ViewName = "dialogue"
    """Part of each annotated text that is read."""
    truncation: Truncation = "head"
    """What a cut keeps."""
    max_length: int = 256
    """Tokens read of each text, special tokens included."""
    val_fraction: float = 0.1
    """Share of the texts for validation."""
    test_fraction: float = 0.2
    """Share of the texts for test; not used where the data set ships a test file, or with folds."""
    n_folds: int | None = None
    """Deal the texts into so many folds, of which one (fold) is test; runs of all folds test every text once."""
    fold: int | None = None
    """Number of the fold that is test, from 0 (with n_folds)."""
    split_seed: int = 0
    """Seed of the split."""
    allow_empty_values: bool = False
    """Train although no training text carries some value; such a value has no metrics."""
    also: list[FurtherData] = field(default_factory=list)
    """Further data sets to train the encoder on too, each with a taxonomy and a head of its own: name, loss, weight."""


@dataclass
class ModelConfig:
    """Architecture, loss and decision rule; fixed once a run has started."""

    encoder: str = "minilm"
    """minilm (bundled), a hub id such as roberta-base, or a folder in Hugging Face layout."""
    revision: str | None = None
    """Branch, tag or commit of a hub encoder."""
    window: int | None = None
    """Tokens that the encoder reads at a time: longer texts, up to max_length tokens, are read in windows of so many,
    and pooling joins them; all at once when left out."""
    pooling: Literal["mean", "cls", "attention"] = "mean"
    """How token states become one vector."""
    loss: Literal["bce", "wan", "an-ls", "asl", "softmax"] = "bce"
    """bce (unknown labels masked), wan (unknown weakly negative), an-ls (unknown negative, labels smoothed), asl
    (asymmetric: easy negatives count less; unknown as in bce, but negative where no negatives are known at all),
    softmax (one value a text, as published)."""
    label_smoothing: float | None = None
    """Target of a label that does not hold, in [0, 0.5), and how far one that holds is below 1 (`an-ls`); 0.1 when
    left out."""
    asl_gamma_positive: float | None = None
    """How much less easy positives count (`asl`); 0, not at all, when left out."""
    asl_gamma_negative: float | None = None
    """How much less easy negatives count (`asl`); 4 when left out."""
    asl_margin: float | None = None
    """Score up to which a negative costs nothing (`asl`), in [0, 1); 0.05 when left out."""
    class_weights: Literal["none", "sqrt", "inverse", "effective"] = "none"
    """Lift rare values in the loss by (the root of) their inverse frequency, or by the effective number of texts."""
    effective_beta: float | None = None
    """Weight of one more text with the value against the one before it (`effective`), between 0 (all values alike) and
    1 (inverse frequency); 0.999 when left out."""
    dropout: float = 0.1
    """Dropout rate of what the head reads, and of its hidden layer (`mlp`)."""
    encoder_dropout: float | None = None
    """Dropout rate inside the encoder; its own rates when left out."""
    head: Literal["linear", "mlp", "label-attention"] = "linear"
    """linear or mlp (one hidden layer) on the pooled text, or label-attention: every label pools the text itself, at
    first by its name and definition in the taxonomy."""
    head_width: int | None = None
    """Width of the hidden layer (`mlp`); 256 when left out."""
    encoder_training: Literal["full", "frozen", "lora"] = "full"
    """full, frozen (only the head is trained), or lora (small adapters beside the encoder's layers)."""
    lora_rank: int | None = None
    """Inner width of an adapter (`lora`); 8 when left out."""
    lora_alpha: float | None = None
    """What an adapter says is multiplied by lora_alpha / lora_rank (`lora`); 16 when left out."""
    lora_dropout: float | None = None
    """Dropout rate of what an adapter reads (`lora`); 0 when left out."""
    lora_targets: list[str] | None = None
    """Ends of the names of linear layers that get an adapter, * for any text (`lora`); peft's choice when left out."""
    decision: Literal["f1", "false-negative-rate"] = "f1"
    """What thresholds are fitted for: the best F1 of each label, or few missed labels (max_false_negative_rate)."""
    max_false_negative_rate: float = 0.1
    """Largest expected share of a text's labels that may be missed (`false-negative-rate`); it holds for a text of a
    new group drawn like those of validation, not for another data set."""


@dataclass
class OptimConfig:
    """Optimiser and schedule."""

    lr_encoder: float = 2e-4
    """Peak learning rate of the encoder."""
    lr_head: float = 2e-3
    """Peak learning rate of pooling and head."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    warmup_fraction: float = 0.1
    """Share of all steps in which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What the learning rate does after the warm-up."""


@dataclass
class TrainerConfig:
    """The training loop and its checkpoints."""

    max_epochs: int = 4
    """Passes over the training texts."""
    batch_size: int = 32
    """Texts per step and accumulated part."""
    accumulate: int = 1
    """Batches per optimiser step."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0 for none."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format of training; auto takes bf16 where the hardware has it."""
    matmul_precision: Literal["highest", "high", "medium"] = "high"
    """How exact float32 matrix products are (torch.set_float32_matmul_precision)."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train and score."""
    val_check_interval: float = 1.0
    """Validate (and save) every so many epochs' share, e.g. 0.5."""
    monitor: str = "auto"
    """Validation metric that picks the best checkpoint; auto is val/ap_macro, or val/f1_top1_macro on single labels."""
    save_top_k: int = -1
    """Checkpoints to keep, best first; -1 keeps all. Every one is audited before it may be deleted."""
    save_last: bool = True
    """Keep checkpoints/last.ckpt with the optimiser state, for `--resume`."""
    limit_train_batches: int | None = None
    """Train on only so many batches an epoch (a quick try)."""
    average_weights: Literal["none", "ema"] = "none"
    """ema: validate, save and audit a moving average of the weights of all steps so far."""
    ema_decay: float | None = None
    """Weight of the average so far at each step (`ema`), less in the first steps: (1 + n) / (10 + n) at step n; 0.99
    when left out."""


@dataclass
class TrackConfig:
    """Weights & Biases; local files are always written."""

    wandb: Literal["auto", "offline", "online", "disabled"] = "auto"
    """auto: online when you are logged in, else offline."""
    project: str = "imprint"
    """W&B project."""
    entity: str | None = None
    """W&B user or team."""
    group: str | None = None
    """W&B group; the experiment name when left out."""
    tags: list[str] = field(default_factory=list)
    """W&B tags."""
    upload: Literal["none", "best", "best+last", "all"] = "best+last"
    """Checkpoints that become artifacts, without optimiser state, as far as save_top_k has kept them."""


@dataclass
class RunConfig:
    """The run itself."""

    experiment: str = "demo"
    """Name of the experiment; begins the run id."""
    root: Path = Path("runs")
    """Folder of the run directories."""
    seed: int = 0
    """Seed of weights, order and dropout."""
    cache_dir: Path = Path(".cache/imprint")
    """Folder of cached tokens."""
    progress: Literal["auto", "on", "off"] = "auto"
    """Progress bars; auto shows them on a terminal and plain lines elsewhere."""


@dataclass
class Config:
    """Everything that `imprint fit` reads."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    run: RunConfig = field(default_factory=RunConfig)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain nested values: what config.yaml holds and the tracker gets."""
    return {section: plain(fields) for section, fields in asdict(config).items()}


def plain(value: Any) -> Any:
    """Return nested values with paths as texts."""
    match value:
        case dict():
            return {name: plain(part) for name, part in value.items()}
        case list():
            return [plain(part) for part in value]
        case Path():
            return str(value)
        case _:
            return value
