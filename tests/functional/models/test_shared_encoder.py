"""Does a further taxonomy teach the encoder what the main one needs?"""

import numpy as np
import torch

from datamodules.annotated_text import NOT_ASKED
from datamodules.batching import pad
from datamodules.taxonomy import Taxonomy
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier
from models.encoder import load_pretrained
from models.metrics import multilabel_metrics

CUES = (("respect", "polite", "kind"), ("rule", "law", "promise"))
WORDS = ("you", "can", "read", "this", "book", "they", "think", "about", "my", "health")


def taxonomy(name):
    return Taxonomy.from_dict({"name": name, "values": [{"slug": f"{name}-{k}", "name": f"{name} {k}"} for k in "ab"]})


def texts(n, n_cues, seed):
    """Texts with one cue each, of the first `n_cues` of either value, and their labels."""
    rng = np.random.default_rng(seed)
    values, found = rng.integers(0, 2, n), []
    for value in values:
        words = rng.choice(WORDS, 6).tolist()
        words[rng.integers(6)] = CUES[value][rng.integers(n_cues)]
        found.append(" ".join(words))
    return found, np.stack([values == 0, values == 1], axis=1).astype(np.int64)


def auroc(encoder, with_further):
    """Train on texts that show one cue of each value, test on all cues; further texts show all of them."""
    torch.manual_seed(0)
    further = {"taxonomy": taxonomy("further").to_dict(), "loss": "bce", "class_weights": None, "loss_settings": None}
    model = ValueClassifier.from_pretrained(
        encoder,
        taxonomy("main"),
        ViewRequest("dialogue", "head", 16),
        further=[further] if with_further else None,
    )
    own, labels = texts(32, 1, seed=1)
    if with_further:
        others, other_labels = texts(96, 3, seed=2)
        targets = np.full((128, 4), NOT_ASKED)
        targets[:32, :2], targets[32:, 2:] = labels, other_labels
        own, labels = own + others, targets
    ids, mask = pad(model.tokeniser.encode([("", text) for text in own], 16).ids, 0)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(40):
        optimiser.zero_grad()
        model._loss(model(ids, mask), torch.from_numpy(labels)).backward()
        optimiser.step()
    tested, truth = texts(200, 3, seed=3)
    ids, mask = pad(model.tokeniser.encode([("", text) for text in tested], 16).ids, 0)
    with torch.no_grad():
        logits = model.eval()(ids, mask)[:, :2].numpy()
    probabilities = 1 / (1 + np.exp(-logits))
    return multilabel_metrics(probabilities, probabilities > 0.5, truth, model.labels)["auroc_macro"]


def test_it_does(tiny_encoder):
    encoder = load_pretrained(str(tiny_encoder))
    alone, together = auroc(encoder, False), auroc(encoder, True)
    assert alone < 0.8
    assert together > 0.95
