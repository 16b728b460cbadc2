"""How does somebody without this project get probabilities and decisions? Code for the model card.

Every block runs as it stands (a test runs them) once `folder` and `texts` are the reader's own.
"""

from models.classifier import ValueClassifier
from models.export import ENCODER_FOLDER, HEAD_FILE, ExportedModel
from models.export_check import Comparison

_POOLED = {
    "mean": "pooled = (states * mask).sum(1) / mask.sum(1)",
    "cls": "pooled = states[:, 0]",
    "attention": (
        'scores = states @ head["pooling.query.weight"].T + head["pooling.query.bias"]\n'
        'pooled = (states * scores.masked_fill(mask == 0, float("-inf")).softmax(1)).sum(1)'
    ),
}
_SCORED = {
    "linear": 'logits = pooled @ head["head.weight"].T + head["head.bias"]',
    "mlp": (
        'hidden = torch.nn.functional.gelu(pooled @ head["head.0.weight"].T + head["head.0.bias"])\n'
        'logits = hidden @ head["head.3.weight"].T + head["head.3.bias"]'
    ),
    "label-attention": (
        'scores = head["head.query"] @ states.transpose(1, 2) / states.shape[-1] ** 0.5\n'
        'shares = scores.masked_fill(mask.transpose(1, 2) == 0, float("-inf")).softmax(-1)\n'
        'logits = ((shares @ states) * head["head.score.weight"]).sum(-1) + head["head.score.bias"]'
    ),
}
_INPUT = 'folder = "path/to/this/folder"\ntexts = ["Human: Why is the sky blue?\\n\\nAssistant: Because ..."]'
_DECISIONS = """\
import json

with open(f"{folder}/thresholds.json", encoding="utf-8") as file:
    rules = json.load(file)["labels"]
names = list(rules)  # in the order of the columns
margins = probabilities.double() - torch.tensor([rules[name]["threshold"] for name in names], dtype=torch.float64)
decisions = margins >= 0"""
_SIGNED = """
# Of `<value>-for` and `<value>-against` the one further above its threshold is on (the first of equals), or none.
for k, name in enumerate(names):
    if name.endswith("-for"):
        other = names.index(name.removesuffix("-for") + "-against")
        is_for = margins[:, k] >= margins[:, other]
        decisions[:, k] &= is_for
        decisions[:, other] &= ~is_for"""


def usage_section(model: ValueClassifier, exported: ExportedModel, comparison: Comparison) -> str:
    """Return the part of a model card that tells how to use the folder.

    Args:
        model: The classifier.
        exported: How it is loaded.
        comparison: What its probabilities were compared on.
    """
    squash = "softmax(logits, dim=-1)" if model.softmax else "sigmoid(logits)"
    parts = ["## Use"]
    if exported.stock_class is not None:
        parts.append(f"It loads as `{exported.stock_class}`, with transformers alone and no code of its own.")
    else:
        parts.append(
            "No class of transformers computes what this classifier does, so that it comes in two ways, which give the "
            "same. As one model, through the code of `modeling_imprint.py` (read it first; it is short, and needs "
            "transformers 5). Without `trust_remote_code` it does not load, rather than load as something else:"
        )
    parts.append(_fenced(_whole(squash, exported.stock_class is None)))
    if exported.stock_class is None:
        parts.append(
            f"Or without any code of this folder's: `{ENCODER_FOLDER}/` is a stock encoder with its tokenizer, and "
            f"`{HEAD_FILE}` holds everything behind it:"
        )
        parts.append(_fenced(_plain(squash, exported)))
    parts.append(
        "Decisions: a value is on where its probability is at or above its threshold (`thresholds.json`, also in "
        "`config.json`). Temperatures are part of the weights; do not apply them again."
    )
    parts.append(_fenced(_DECISIONS + (_SIGNED if model.taxonomy.signed else "")))
    return "\n\n".join([*parts, _notes(model, comparison)])


def _whole(squash: str, has_code: bool) -> str:
    trust = ", trust_remote_code=True" if has_code else ""
    return f"""\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

{_INPUT}
tokenizer = AutoTokenizer.from_pretrained(folder{trust})
model = AutoModelForSequenceClassification.from_pretrained(folder{trust})
batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
probabilities = torch.{squash}  # [texts, labels]; names: model.config.id2label"""


def _plain(squash: str, exported: ExportedModel) -> str:
    no_pooler = ", add_pooling_layer=False" if exported.has_pooler_flag else ""
    pooled = "" if exported.head == "label-attention" else _POOLED[exported.pooling] + "\n"
    return f"""\
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

{_INPUT}
tokenizer = AutoTokenizer.from_pretrained(f"{{folder}}/{ENCODER_FOLDER}")
encoder = AutoModel.from_pretrained(f"{{folder}}/{ENCODER_FOLDER}"{no_pooler})
head = load_file(f"{{folder}}/{HEAD_FILE}")
batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    states = encoder(**batch).last_hidden_state
mask = batch["attention_mask"].unsqueeze(-1)
{pooled}{_SCORED[exported.head]}
probabilities = torch.{squash}"""


def _notes(model: ValueClassifier, comparison: Comparison) -> str:
    side = "last" if model.view.truncation == "tail" else "first"
    lines = [
        f"`truncation=True` keeps the {side} {model.view.max_length} tokens, as in training. Without it a longer text "
        "is read further than the classifier was trained to, or fails.",
        "`folder` is a local one: `huggingface_hub.snapshot_download` makes one of a repository on the Hub.",
        "Texts are read as they stand. Dialogues of training were written `Human: ..`, a blank line, `Assistant: ..`.",
        f"When this folder was written, probabilities of {comparison.n_texts} texts ({comparison.n_cut} of them cut) "
        f"differed from those of the checkpoint by at most {comparison.difference:.1g} in float32. In half precision "
        "they differ more.",
    ]
    return "\n".join(f"* {line}" for line in lines)


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```"
