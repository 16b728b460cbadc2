"""What is minimised?

Targets are 1 (holds), 0 (does not) or -1 (unknown). All losses work on logits in float32 and return a scalar.
"""

import torch
import torch.nn.functional as F

from datamodules.errors import InputError

LOSSES = ("bce", "wan", "softmax")
CLASS_WEIGHTS = ("none", "sqrt", "inverse")


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


def compute_loss(name: str, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the loss of that name; see the function of each.

    Raises:
        InputError: An unknown name.
    """
    match name:
        case "bce":
            return masked_bce(logits, targets, weights)
        case "wan":
            return weak_assume_negative(logits, targets, weights)
        case "softmax":
            return softmax_cross_entropy(logits, targets, weights)
        case _:
            raise InputError(f"loss {name!r}", f"one of {', '.join(LOSSES)}", "--model.loss")


def class_weights(mode: str, targets: torch.Tensor, loss: str) -> torch.Tensor:
    """Weights that lift rare labels, from the training targets.

    For `bce` and `wan` the positive term of label k is weighted by (negatives / positives), unknown counted as
    negative; for `softmax` class k by (mean positives / positives). `sqrt` takes the square root of that. A label
    without positives gets weight 1: nothing is there to weight.

    Args:
        mode: `none`, `sqrt` or `inverse`.
        targets: int [n, n_labels] in {1, 0, -1}.
        loss: Name of the loss that the weights are for.

    Returns:
        float32 [n_labels].

    Raises:
        InputError: An unknown mode.
    """
    if mode not in CLASS_WEIGHTS:
        raise InputError(f"class_weights {mode!r}", f"one of {', '.join(CLASS_WEIGHTS)}", "--model.class_weights")
    positives = (targets == 1).sum(dim=0).float()
    if mode == "none":
        return torch.ones_like(positives)
    if loss == "softmax":
        ratio = positives[positives > 0].mean() / positives.clamp(min=1.0)
    else:
        ratio = (targets.shape[0] - positives) / positives.clamp(min=1.0)
    ratio = torch.where(positives > 0, ratio, torch.ones_like(ratio))
    return ratio.sqrt() if mode == "sqrt" else ratio
