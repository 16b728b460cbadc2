"""Which score says "as likely as by chance", p = 1/L?

p is the chance that a label is the one written down. Each loss draws scores to another function of p, so that the score
at p = 1/L differs; where no known negatives are there to fit a threshold, that score decides.
"""

import math
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.special import expit

from models.losses import LossSettings

# Range of logits in which the optimum of an asymmetric loss is looked for; all of its parts are finite there.
LOGIT_RANGE = (-300.0, 300.0)


def chance_thresholds(loss: str, weights: Sequence[float], settings: LossSettings) -> list[float]:
    """Return the score of each label at the optimum of a loss where p = 1/L; scores above it mean p above 1/L.

    With weight w of a label's positives:

    * `bce`: s = w / (w + L - 1); p is then the chance that the label holds, among texts of which it is known.
    * `wan`, trained on single positives: s = w / (1 + w), as s/(1-s) = w (L-1) p/(1-p).
    * `an-ls`: s = eps + (1 - 2 eps) w / (w + L - 1).
    * `asl`: the s at which the slopes of p times the positive and 1 - p times the negative term cancel. It can be none:
      weights so large that every score runs to 1 from a p below 1/L on, or g- = 0 with a margin so large that every
      score stays at the margin up to a p above 1/L. NaN then.
    * `softmax`: w / sum(w), what it says of a text whose labels are all equally likely.

    With one label there is no chance to be above: NaN.

    Args:
        loss: Name of the loss.
        weights: w of each label [L].
        settings: Its numbers.
    """
    n_others = len(weights) - 1
    if not n_others:
        return [math.nan]
    match loss:
        case "wan":
            return [weight / (1 + weight) for weight in weights]
        case "an-ls":
            eps = settings.label_smoothing
            return [eps + (1 - 2 * eps) * weight / (weight + n_others) for weight in weights]
        case "asl":
            return [_asymmetric_optimum(weight / n_others, settings) for weight in weights]
        case "softmax":
            return [weight / sum(weights) for weight in weights]
        case _:
            return [weight / (weight + n_others) for weight in weights]


def _asymmetric_optimum(odds: float, settings: LossSettings) -> float:
    """The s that minimises odds times the positive plus the negative term of `losses.asymmetric`; NaN at an end.

    Of the two slopes the positive one falls and the negative one rises with s, so that they meet once or never.
    """
    gamma_positive, gamma_negative = settings.asl_gamma_positive, settings.asl_gamma_negative
    margin = settings.asl_margin

    def slope(logit: float) -> float:
        score, rest = float(expit(logit)), float(expit(-logit))
        shifted = max(score - margin, 0.0)
        falling = rest**gamma_positive * (1 / score + gamma_positive * _log_ratio(rest, score))
        rising = shifted**gamma_negative * (gamma_negative * _log_ratio(shifted, rest + margin) + 1 / (rest + margin))
        difference: float = rising - odds * falling
        return difference

    low, high = LOGIT_RANGE
    if margin > 0:
        low = math.log(margin) - math.log1p(-margin)
    if not slope(low) < 0 < slope(high):
        return math.nan
    return float(expit(brentq(slope, low, high, xtol=1e-12)))


def _log_ratio(share: float, rest: float) -> float:
    """-log(1 - share) / share, 1 at 0; `rest` is 1 - share without its rounding."""
    return -math.log(rest) / share if share > 1e-12 else 1.0
