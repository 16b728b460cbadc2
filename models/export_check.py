"""Does transformers find the same probabilities in an exported folder?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from datamodules.batching import pad
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.export import CODE_FILE
from models.heads import label_texts
from models.inference import evaluation_mode
from models.modeling_imprint import ImprintForSequenceClassification

_MOST_SHORT, _MOST_LONG, _TEXTS_AT_ONCE = 14, 2, 8
# Tokens that the networks are compared on: a large encoder takes minutes for texts of its full length.
_MOST_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it.

    Attributes:
        n_texts: Texts compared, in float32.
        n_cut: Those of them that are longer than the classifier reads.
        difference: Largest difference of two probabilities; NaN where tokens differ.
        other_tokens: A text that becomes other tokens; None where there is none.
    """

    n_texts: int
    n_cut: int
    difference: float
    other_tokens: str | None = None


def compare_with_export(model: ValueClassifier, calibration: Calibration, folder: Path) -> Comparison:
    """Score the definitions of the values, alone and together, with a classifier and with the folder written of it.

    Args:
        model: The classifier, on the CPU.
        calibration: Its temperatures.
        folder: What `models.export.write_model` wrote.
    """
    texts, view = _texts(model), model.view
    expected = model.tokeniser.encode([("", text) for text in texts], view.max_length, view.truncation)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    found = tokenizer(texts, truncation=True)["input_ids"]
    n_cut = int(expected.truncated.sum())
    for text, own_ids, found_ids in zip(texts, expected.ids, found, strict=True):
        if own_ids != found_ids:
            return Comparison(len(texts), n_cut, float("nan"), text)
    loader = ImprintForSequenceClassification if (folder / CODE_FILE).is_file() else AutoModelForSequenceClassification
    exported = loader.from_pretrained(folder, dtype=torch.float32)
    difference = 0.0
    with evaluation_mode(model), torch.no_grad():
        # In this order long texts stand beside short ones, so that padding is seen too.
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            rows = [row[:_MOST_TOKENS] for row in expected.ids[start : start + _TEXTS_AT_ONCE]]
            ids, mask = pad(rows, model.tokeniser.pad_id)
            ours = calibration.probabilities(model(ids, mask)[:, : len(model.labels)].numpy())
            logits = exported(input_ids=ids, attention_mask=mask).logits
            theirs = (logits.softmax(dim=-1) if model.softmax else logits.sigmoid()).numpy()
            difference = max(difference, float(np.abs(ours - theirs).max()))
    return Comparison(len(texts), n_cut, difference)


def _texts(model: ValueClassifier) -> list[str]:
    """Texts of every length, the longest cut: definitions of values, by ones and repeated."""
    short = label_texts(model.taxonomy)[:_MOST_SHORT]
    # More words than tokens are read.
    n_repeats = 1 + 2 * model.view.max_length // max(1, len(" ".join(short).split()))
    long = [" ".join((short[k:] + short[:k]) * n_repeats) for k in range(min(_MOST_LONG, len(short)))]
    step = max(1, len(short) // max(1, len(long)))
    for k, text in enumerate(long):
        short.insert(k * (step + 1), text)
    return short
