"""How much more does a rare label weigh in the loss?"""

import math

import torch

from datamodules.errors import InputError

CLASS_WEIGHTS = ("none", "sqrt", "inverse", "effective")
# Items beyond 1/(1 - beta) = 1,000 hardly add to what is known of a label: the size of the sets that people label.
EFFECTIVE_BETA = 0.999


def class_weights(mode: str, targets: torch.Tensor, loss: str, effective_beta: float = EFFECTIVE_BETA) -> torch.Tensor:
    """Weights that lift rare labels, from the training targets.

    * `inverse`: for losses with a sigmoid per label the positive term of label k is weighted by
      (negatives / positives), unknown counted as negative; for `softmax` class k by (mean positives / positives).
      Positives weigh as much as negatives then.
    * `sqrt`: the square root of that.
    * `effective`: 1 / effective number of positives, (1 - beta^n) / (1 - beta) (Cui et al. 2019, "Class-balanced loss
      based on effective number of samples"), for every loss, scaled so that the mean over the labels that have
      positives is 1: rare labels gain what frequent ones lose, and positives as a whole stay as light as they are.
      beta near 0 weighs all alike, beta near 1 by 1/n.

    A label without positives gets weight 1: nothing is there to weight.

    Args:
        mode: `none`, `sqrt`, `inverse` or `effective`.
        targets: int [n, n_labels] in {1, 0, -1}.
        loss: Name of the loss that the weights are for.
        effective_beta: beta of `effective`, above 0 and below 1.

    Returns:
        float32 [n_labels].

    Raises:
        InputError: An unknown mode.
    """
    if mode not in CLASS_WEIGHTS:
        raise InputError(f"class_weights {mode!r}", f"one of {', '.join(CLASS_WEIGHTS)}", "--model.class_weights")
    positives = (targets == 1).sum(dim=0).double()
    has_any = positives > 0
    if mode == "none":
        return torch.ones(targets.shape[1])
    if mode == "effective":
        # 1 - beta^n, exact also where beta is next to 1.
        share_of_limit = -torch.expm1(positives.clamp(min=1.0) * math.log(effective_beta))
        ratio = (1 - effective_beta) / share_of_limit
        ratio = ratio / ratio[has_any].mean()
    elif loss == "softmax":
        ratio = positives[has_any].mean() / positives.clamp(min=1.0)
    else:
        ratio = (targets.shape[0] - positives) / positives.clamp(min=1.0)
    ratio = torch.where(has_any, ratio, 1.0).float()
    return ratio.sqrt() if mode == "sqrt" else ratio
