"""What is minimised?

Targets are 1 (holds), 0 (does not) or -1 (unknown). All losses work on logits in float32 and return a scalar.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from datamodules.errors import InputError

LOSSES = ("bce", "wan", "an-ls", "asl", "softmax")


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Numbers of the losses that have any.

    Attributes:
        label_smoothing: Target of a label that does not hold (`an-ls`), in [0, 0.5); Cole et al. use 0.1.
        asl_gamma_positive: Focus on hard positives (`asl`), from 0.
        asl_gamma_negative: Focus on hard negatives (`asl`), from 0; meant to be larger than that on positives.
        asl_margin: Score up to which a negative costs nothing (`asl`), in [0, 1).
        unknown_as_negative: Count unknown labels as negative (`asl`); left out otherwise.
    """

    label_smoothing: float = 0.1
    # Those of Ridnik et al. for MS-COCO.
    asl_gamma_positive: float = 0.0
    asl_gamma_negative: float = 4.0
    asl_margin: float = 0.05
    unknown_as_negative: bool = False


def masked_bce(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy averaged over the known entries; unknown ones neither add nor count.

    Args:
        logits: float [batch, n_labels].
        targets: int [batch, n_labels] in {1, 0, -1}.
        weights: Weight of the positive term of each label, float [n_labels].
    """
    logits = logits.float()
    known = (targets != -1).float()
    terms = -(weights * (targets == 1) * F.logsigmoid(logits) + (targets == 0) * F.logsigmoid(-logits))
    return terms.sum() / known.sum().clamp(min=1.0)


def weak_assume_negative(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weak assume-negative loss (WAN): unknown labels count as negative with weight 1/(L-1), known ones fully.

    Per item `-sum_pos w log s - sum_neg log(1-s) - 1/(L-1) sum_unknown log(1-s)`, averaged over items (Cole et al.
    2021, "Multi-label learning from single positive labels"). Its optimum on single positives is
    s/(1-s) = (L-1) p/(1-p), p the chance that this label is the one written down: s > 0.5 means p > 1/L.

    Args:
        logits: float [batch, n_labels], n_labels >= 2.
        targets: int [batch, n_labels] in {1, 0, -1}.
        weights: Weight of the positive term of each label, float [n_labels].
    """
    logits = logits.float()
    negative_weight = (targets == 0).float() + (targets == -1).float() / (logits.shape[1] - 1)
    terms = weights * (targets == 1) * F.logsigmoid(logits) + negative_weight * F.logsigmoid(-logits)
    return -terms.sum(dim=1).mean()


def assume_negative_smoothed(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """Assume-negative loss with label smoothing (AN-LS): unknown labels count as negative, and no label is certain.

    Binary cross-entropy over all entries with target 1 - eps where the label holds and eps elsewhere, be it known not
    to hold or unknown (Cole et al. 2021, whose code smooths positives too). Where all labels are known this is plain
    label smoothing; with eps = 0 it is the assume-negative loss (AN), which is `masked_bce` with 0 for unknown.
    A weight is that of the positives as items, not of the smoothed share, so that the optimum on single positives,
    s = eps + (1 - 2 eps) w p / (w p + 1 - p), stays within [eps, 1 - eps].

    Args:
        logits: float [batch, n_labels].
        targets: int [batch, n_labels] in {1, 0, -1}.
        weights: Weight of the positive entries of each label, float [n_labels].
        label_smoothing: eps, in [0, 0.5).
    """
    logits = logits.float()
    holds = targets == 1
    share = torch.where(holds, 1 - label_smoothing, label_smoothing)
    terms = share * F.logsigmoid(logits) + (1 - share) * F.logsigmoid(-logits)
    return -(torch.where(holds, weights, 1.0) * terms).mean()


def asymmetric(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> torch.Tensor:
    """Asymmetric loss (ASL; Ridnik et al. 2021, "Asymmetric loss for multi-label classification").

    `-w (1-s)^g+ log s` of a positive and `-s_m^g- log(1 - s_m)` of a negative, s_m = max(s - m, 0), averaged over the
    entries that count. A negative up to the margin m costs nothing. The gradient is that of the formula: the released
    code takes the focusing factors for constants, which moves the optimum.

    Unknown entries neither add nor count, as in `masked_bce`, which it is at g+ = g- = m = 0. With
    `unknown_as_negative` they are negatives: for data without any known negative, on which the masked loss would only
    raise every score. The margin and g- forgive those among them that do hold.

    Args:
        logits: float [batch, n_labels].
        targets: int [batch, n_labels] in {1, 0, -1}.
        weights: Weight of the positive term of each label, float [n_labels].
        settings: g+, g- and m, and what unknown counts as.
    """
    log_s, log_rest = F.logsigmoid(logits.float()), F.logsigmoid(-logits.float())
    positive = targets == 1
    negative = targets != 1 if settings.unknown_as_negative else targets == 0
    positives = weights * (settings.asl_gamma_positive * log_rest).exp() * log_s
    # Both clamps together give a negative below the margin a loss and a gradient of exactly 0, whatever the exponent.
    shifted = (log_s.exp() - settings.asl_margin).clamp(min=torch.finfo(torch.float32).tiny)
    log_margin = torch.full_like(log_rest, settings.asl_margin).log()
    log_rest_shifted = torch.logaddexp(log_rest, log_margin).clamp(max=0.0)
    negatives = shifted**settings.asl_gamma_negative * log_rest_shifted
    n_counted = (positive | negative).sum().clamp(min=1)
    return -(positive * positives + negative * negatives).sum() / n_counted


def softmax_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a softmax over all labels against the positives of each item (the published loss).

    An item with several positives has its mass spread evenly over them; an item without any is left out.

    Args:
        logits: float [batch, n_labels].
        targets: int [batch, n_labels] in {1, 0, -1}.
        weights: Weight of each class, float [n_labels]; the mean is weighted, as in `torch.nn.CrossEntropyLoss`.
    """
    positive = (targets == 1).float()
    share = positive / positive.sum(dim=1, keepdim=True).clamp(min=1.0)
    terms = -(share * weights * F.log_softmax(logits.float(), dim=1)).sum()
    return terms / (share * weights).sum().clamp(min=torch.finfo(torch.float32).tiny)


def compute_loss(
    name: str,
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    settings: LossSettings = LossSettings(),
) -> torch.Tensor:
    """Return the loss of that name; see the function of each.

    Raises:
        InputError: An unknown name.
    """
    match name:
        case "bce":
            return masked_bce(logits, targets, weights)
        case "wan":
            return weak_assume_negative(logits, targets, weights)
        case "an-ls":
            return assume_negative_smoothed(logits, targets, weights, settings.label_smoothing)
        case "asl":
            return asymmetric(logits, targets, weights, settings)
        case "softmax":
            return softmax_cross_entropy(logits, targets, weights)
        case _:
            raise InputError(f"loss {name!r}", f"one of {', '.join(LOSSES)}", "--model.loss")
