"""How does somebody without this project get probabilities and decisions? Code for the model card.

Every block runs as it stands (a test runs them) once `folder` and `texts` are the reader's own.
"""

from models.classifier import ValueClassifier

_PARTS = {
    "prompt": "what comes before the last response",
    "response": "the last response",
    "exchange": "the last human turn with the response to it",
}
_DECISIONS = """\
labels = [model.config.id2label[k] for k in range(model.config.num_labels)]
thresholds = torch.tensor([model.config.thresholds[label] for label in labels], dtype=torch.float64)
margins = probabilities.double() - thresholds
decisions = margins >= 0  # bool [texts, labels]
"""
_SIGNED = """\
# Of `<value>-for` and `<value>-against` the one further above its threshold is on (of equals the first), or none.
for k, label in enumerate(labels):
    if label.endswith("-for"):
        other = labels.index(label.removesuffix("-for") + "-against")
        is_for = margins[:, k] >= margins[:, other]
        decisions[:, k] &= is_for
        decisions[:, other] &= ~is_for
"""
_PRINTED = """\
for text, row in zip(texts, decisions.tolist()):
    print(text, [label for label, on in zip(labels, row) if on])"""


def usage_section(model: ValueClassifier, stock_class: str | None) -> str:
    """Return the part of a model card that tells how to use the folder.

    Args:
        model: The classifier.
        stock_class: The class of transformers that loads it; None where `modeling_imprint.py` does.
    """
    squash, call = ("softmax", "softmax(-1)") if model.softmax else ("sigmoid", "sigmoid()")
    side = "last" if model.view.truncation == "tail" else "first"
    how = f"It loads as `{stock_class}`, with transformers alone and no code of its own."
    trust = ""
    if stock_class is None:
        how = (
            "It needs transformers 5 and the code of `modeling_imprint.py`, as no class of transformers has this "
            "pooling and head. Read that file first: `trust_remote_code=True` runs it."
        )
        trust = ", trust_remote_code=True"
    probabilities = f"""\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "path/to/this/folder"  # or its name on the Hub
texts = ["Nobody should have to ask for permission to say what they think."]
tokenizer = AutoTokenizer.from_pretrained(folder{trust})
model = AutoModelForSequenceClassification.from_pretrained(folder{trust})
batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    probabilities = model(**batch).logits.{call}  # calibrated, [texts, labels]

"""
    by_name = f"""\
from transformers import pipeline

score = pipeline("text-classification", model=folder{trust}, top_k=None, function_to_apply="{squash}")
print(score(texts, truncation=True))"""
    lines = [
        f"`truncation=True` keeps the {side} {model.view.max_length} tokens, as in training. Without it a longer text "
        "is read further than the classifier was trained to, or fails.",
        "Temperatures are part of the weights: do not apply them again. Thresholds are in `config.json`, and with how "
        "they came about in `thresholds.json`; change them as your costs of a miss and of a false alarm ask.",
        "A text is read as it stands. A dialogue is one text: `Human: ..`, a blank line, `Assistant: ..`, and so on.",
    ]
    if (part := _PARTS.get(model.view.view)) is not None:
        lines.append(f"In training {part} of each dialogue was read alone: give it that part.")
    decisions = _DECISIONS + (_SIGNED if model.taxonomy.signed else "") + _PRINTED
    parts = [how, _fenced(probabilities + decisions), "Probabilities alone, by name:", _fenced(by_name)]
    return "\n\n".join(["## Use", *parts, "\n".join(f"* {line}" for line in lines)])


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```"
