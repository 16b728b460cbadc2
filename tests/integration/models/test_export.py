"""An exported folder gives the classifier's own probabilities and decisions where this project is not there."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, Unigram
from tokenizers.normalizers import NFKC
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    pipeline,
)

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.calibration import Calibration
from models.classifier import ValueClassifier
from models.encoder import load_pretrained
from models.export import write_model
from models.export_check import compare_with_export
from models.inference import score_tokens
from models.modeling_imprint import ImprintForSequenceClassification
from train.usage_card import usage_section

ARCHITECTURES = ("bert", "roberta", "deberta-v3", "modernbert")
# Architecture, pooling, head, and the stock class that computes the same.
KINDS = [
    *((name, "mean", "linear", None) for name in ARCHITECTURES),
    *((name, "cls", "linear", None) for name in ("bert", "roberta", "modernbert")),
    ("deberta-v3", "cls", "linear", "DebertaV2ForSequenceClassification"),
    ("deberta-v3", "cls", "mlp", "DebertaV2ForSequenceClassification"),
    *((name, "mean", "mlp", None) for name in ARCHITECTURES),
    *((name, "attention", "linear", None) for name in ARCHITECTURES),
    *((name, "mean", "label-attention", None) for name in ARCHITECTURES),
]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
# Larger than published, so that a random encoder tells texts apart.
SPREAD = {"initializer_range": 0.3, "pad_token_id": 0}
TEXTS = [
    "",
    "why",
    "law rule promise kind feel",
    "what is fair and equal ? " * 3,
    "we respect polite people and tolerate their view . " * 20,
    "[SEP] animal [PAD] rights [CLS]",
    "learn know book idea read think " * 9,
]
# Runs the code blocks of each folder's README with texts of its own, where no package of this project can be found.
RUNNER = """
import importlib.util, json, re, sys
sys.path.append(sys.argv[1])
for package in ("models", "datamodules", "train", "audits", "experiments"):
    assert importlib.util.find_spec(package) is None, package
import warnings
warnings.simplefilter("error")
for folder, texts in json.load(open(sys.argv[2])):
    card = open(f"{folder}/README.md", encoding="utf-8").read()
    names = {}
    for code in re.findall(r"```python\\n(.*?)```", card, flags=re.DOTALL):
        code = re.sub(r'(?m)^folder = "path/to/this/folder".*$', lambda _: f"folder = {folder!r}", code)
        exec(re.sub(r"(?m)^texts = .*$", lambda _: f"texts = {texts!r}", code), names)
    by_name = [{own["label"]: own["score"] for own in row} for row in names["score"](texts, truncation=True)]
    found = {"probabilities": names["probabilities"].double().tolist(), "decisions": names["decisions"].tolist()}
    found["by_name"] = [[row[label] for label in names["labels"]] for row in by_name]
    json.dump(found, open(f"{folder}/results.json", "w"))
"""


def tiny_network(architecture, size):
    """Build the architecture as its published models are configured, at width 16."""
    common = SIZES | SPREAD | {"vocab_size": size}
    match architecture:
        case "bert":
            return BertModel(BertConfig(**common, max_position_embeddings=48))
        case "roberta":
            return RobertaModel(RobertaConfig(**common, max_position_embeddings=50, type_vocab_size=1))
        case "deberta-v3":
            position = {"relative_attention": True, "position_buckets": 8, "max_relative_positions": -1}
            position |= {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
            published = {"pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "pooler_hidden_size": 16}
            return DebertaV2Model(DebertaV2Config(**common, **position, **published, max_position_embeddings=48))
        case _:
            ids = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
            return ModernBertModel(ModernBertConfig(**common, **ids, max_position_embeddings=48, local_attention=8))


@pytest.fixture(scope="module")
def encoders(tiny_encoder, tmp_path_factory):
    """Each architecture with the word-list tokenizer, loaded from a folder in Hugging Face layout."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    made = {}
    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp(architecture)
        torch.manual_seed(0)
        tiny_network(architecture, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[architecture] = load_pretrained(str(folder))
    return made


def classifier(encoder, pooling="mean", head="linear", truncation="head", taxonomy="schwartz", **options):
    """A classifier with weights that make texts differ."""
    torch.manual_seed(1)
    options |= {"pooling": pooling, "head": head, "head_width": 12 if head == "mlp" else None}
    view = ViewRequest("dialogue", truncation, 40)
    model = ValueClassifier.from_pretrained(encoder, load_taxonomy(taxonomy), view, **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("head.", "pooling.")):
                parameter.copy_(0.4 * torch.randn_like(parameter))
            elif "lora_B" in name:  # 0 before training
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return model


def scored(model, texts, calibration=None):
    """Logits of texts as `imprint score` reads them, or probabilities and decisions."""
    ids = model.tokeniser.encode([("", text) for text in texts], model.view.max_length, model.view.truncation).ids
    logits = score_tokens(model, ids, np.array([len(row) for row in ids]), model.tokeniser.pad_id, "float32")
    if calibration is None:
        return logits
    probabilities = calibration.probabilities(logits)
    return probabilities, calibration.decide(probabilities)


def calibrated(model, texts):
    """Temperatures that differ from label to label, and thresholds in the widest gap between the texts."""
    labels = model.labels
    temperatures = (2.0,) * len(labels) if model.softmax else tuple(np.geomspace(0.5, 3, len(labels)).tolist())
    blank = Calibration(labels, temperatures, (0.0,) * len(labels), True, model.taxonomy.signed, model.softmax)
    ranked = np.sort(blank.probabilities(scored(model, texts)), axis=0)
    widest = np.diff(ranked, axis=0).argmax(axis=0)[np.newaxis]
    below, above = (np.take_along_axis(ranked, at, axis=0)[0] for at in (widest, widest + 1))
    return replace(blank, thresholds=tuple(((below + above) / 2).tolist()))


def exported(model, calibration, folder):
    """Write a folder with the part of its card that tells how to use it."""
    folder.mkdir()
    thresholds = dict(zip(calibration.labels, calibration.thresholds, strict=True))
    written = write_model(model, calibration, {"thresholds": thresholds}, folder)
    compared = compare_with_export(model, calibration, folder)
    (folder / "README.md").write_text(usage_section(model, written))
    return written, compared


def run_cards(folders, texts, tmp_path):
    """Follow the cards of some folders; per folder probabilities, decisions and what a pipeline gave."""
    jobs, home = tmp_path / "jobs.json", tmp_path / "home"
    jobs.write_text(json.dumps([(str(folder), texts) for folder in folders]))
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    # -S: an installed checkout would come in by a .pth file.
    command = [sys.executable, "-I", "-S", "-c", RUNNER, sysconfig.get_paths()["purelib"], str(jobs)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "newly initialized" not in done.stderr, done.stderr
    assert "UNEXPECTED" not in done.stderr, done.stderr
    found = [json.loads((folder / "results.json").read_text()) for folder in folders]
    return [{name: np.array(values) for name, values in own.items()} for own in found]


def check_results(found, model, texts, calibration, name=""):
    """Compare what came of a card with the classifier's own."""
    probabilities, decisions = scored(model, texts, calibration)
    np.testing.assert_allclose(found["probabilities"], probabilities, rtol=0, atol=1e-6, err_msg=name)
    # A pipeline reads one text at a time, which rounds otherwise than a batch does.
    alone = np.vstack([scored(model, [text], calibration)[0] for text in texts])
    np.testing.assert_allclose(found["by_name"], alone, rtol=0, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found["decisions"], decisions, err_msg=name)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind[:3]))
def test_transformers_finds_the_same_probabilities(encoders, tmp_path, kind):
    architecture, pooling, head, stock = kind
    model = classifier(encoders[architecture], pooling, head)
    written, compared = exported(model, calibrated(model, TEXTS), tmp_path / "out")
    assert written == stock
    assert (tmp_path / "out" / "modeling_imprint.py").is_file() == (stock is None)
    assert compared.other_tokens is None
    assert compared.difference < 1e-6
    assert 0 < compared.n_cut < compared.n_texts


@pytest.mark.slow
def test_cards_tell_all_that_is_needed_without_this_project(encoders, tmp_path):
    models = {"-".join(kind[:3]): classifier(encoders[kind[0]], *kind[1:3]) for kind in KINDS}
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.1, "targets": []}
    for architecture in ARCHITECTURES:
        options = {"encoder_training": "lora", "lora": lora}
        models[f"{architecture}-lora"] = classifier(encoders[architecture], **options)
    models["minilm"] = classifier(load_pretrained("minilm"), taxonomy="valueeval")
    models["tail"] = classifier(encoders["bert"], truncation="tail")
    models["softmax"] = classifier(encoders["bert"], taxonomy="valueeval", loss="softmax")
    models["softmax-stock"] = classifier(encoders["deberta-v3"], "cls", taxonomy="valueeval", loss="softmax")
    calibrations = {name: calibrated(model, TEXTS) for name, model in models.items()}
    folders = [tmp_path / name for name in models]
    for folder in folders:
        exported(models[folder.name], calibrations[folder.name], folder)
    found = run_cards(folders, TEXTS, tmp_path)
    for folder, results in zip(folders, found, strict=True):
        _, decisions = scored(models[folder.name], TEXTS, calibrations[folder.name])
        assert decisions.any(), folder.name
        assert not decisions.all(), folder.name
        check_results(results, models[folder.name], TEXTS, calibrations[folder.name], folder.name)


def byte_level(texts):
    """A tokenizer of RoBERTa's kind."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        texts, BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=ByteLevel.alphabet())
    )
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer, {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}


def unigram(texts):
    """A tokenizer of DeBERTa-v3's kind."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = NFKC(), Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer.train_from_iterator(texts, UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="[UNK]"))
    frame = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    return tokenizer, {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


@pytest.mark.parametrize(("architecture", "train"), [("roberta", byte_level), ("deberta-v3", unigram)])
def test_tokenizers_of_other_kinds_are_read_back_as_they_were(tmp_path, architecture, train):
    texts = ["  Two  spaces, and\ta tab", "Ünï\u0301cödé 🙂 ﬁne", "<s> [SEP] </s> [PAD]", *TEXTS]
    tokenizer, special = train(texts)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=40, **special)
    fast.save_pretrained(tmp_path / "encoder")
    torch.manual_seed(0)
    tiny_network(architecture, len(fast)).save_pretrained(tmp_path / "encoder")
    model = classifier(load_pretrained(str(tmp_path / "encoder")))
    _, compared = exported(model, calibrated(model, TEXTS), tmp_path / "out")
    assert compared.difference < 1e-6
    expected = model.tokeniser.encode([("", text) for text in texts], 40).ids
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")(texts, truncation=True)["input_ids"] == expected


def test_a_stock_folder_holds_no_code_and_one_with_code_is_refused_without_trust(encoders, tmp_path):
    model = classifier(encoders["bert"])
    exported(model, calibrated(model, TEXTS), tmp_path / "code")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "code", trust_remote_code=False)
    model = classifier(encoders["deberta-v3"], "cls")
    exported(model, calibrated(model, TEXTS), tmp_path / "stock")
    config = AutoConfig.from_pretrained(tmp_path / "stock")
    assert list(config.id2label.values()) == list(model.labels)
    assert config.label2id == {label: k for k, label in enumerate(model.labels)}
    assert config.problem_type == "multi_label_classification"
    files = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in (tmp_path / "stock").iterdir()) == files
    code = sorted(path.name for path in (tmp_path / "code").iterdir())
    assert code == sorted([*files, "modeling_imprint.py"])


def test_half_precision_and_another_attention_reach_the_encoder(encoders, tmp_path):
    model = classifier(encoders["bert"], head="mlp")
    calibration = calibrated(model, TEXTS)
    exported(model, calibration, tmp_path / "out")
    expected, _ = scored(model, TEXTS, calibration)
    batch = PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")(
        TEXTS, truncation=True, padding=True, return_tensors="pt"
    )
    for options, tolerance in (({"attn_implementation": "eager"}, 1e-6), ({"dtype": torch.bfloat16}, 0.2)):
        loaded = ImprintForSequenceClassification.from_pretrained(tmp_path / "out", **options)
        with torch.no_grad():
            found = loaded(**batch, labels=torch.ones(len(TEXTS), len(model.labels)))
        np.testing.assert_allclose(found.logits.sigmoid(), expected, rtol=0, atol=tolerance)
        assert found.loss > 0
    assert {loaded.backbone.dtype, loaded.head[0].weight.dtype} == {torch.bfloat16, torch.float32}
    eager = ImprintForSequenceClassification.from_pretrained(tmp_path / "out", attn_implementation="eager")
    assert eager.backbone.config._attn_implementation == "eager"


def test_a_loaded_folder_that_is_saved_again_is_the_same(encoders, tmp_path):
    model = classifier(encoders["roberta"], "attention")
    calibration = calibrated(model, TEXTS)
    exported(model, calibration, tmp_path / "out")
    ImprintForSequenceClassification.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "modeling_imprint.py"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_a_pipeline_gives_calibrated_probabilities_by_name(encoders, tmp_path):
    model = classifier(encoders["deberta-v3"], "cls")
    calibration = calibrated(model, TEXTS)
    exported(model, calibration, tmp_path / "out")
    score = pipeline("text-classification", model=str(tmp_path / "out"), top_k=None, device="cpu")
    found = score(TEXTS, truncation=True, padding=True, batch_size=4)
    expected, _ = scored(model, TEXTS, calibration)
    for entries, row in zip(found, expected, strict=True):
        by_name = {entry["label"]: entry["score"] for entry in entries}
        np.testing.assert_allclose([by_name[label] for label in model.labels], row, rtol=0, atol=1e-6)


def test_what_transformers_makes_something_else_of_is_seen(encoders, tmp_path):
    model = classifier(encoders["bert"])
    calibration = calibrated(model, TEXTS)
    exported(model, calibration, tmp_path / "out")
    hotter = replace(calibration, temperatures=tuple(t * 1.01 for t in calibration.temperatures))
    assert compare_with_export(model, hotter, tmp_path / "out").difference > 1e-4
    settings = tmp_path / "out" / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"truncation_side": "right"', '"truncation_side": "left"'))
    assert compare_with_export(model, calibration, tmp_path / "out").other_tokens is not None


def test_long_texts_in_two_parts_cannot_be_exported(encoders, tmp_path):
    model = classifier(encoders["bert"], truncation="head_tail")
    with pytest.raises(InputError, match=re.escape("reads long texts as head_tail")):
        write_model(model, calibrated(model, TEXTS), {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_several_taxonomies_the_main_one_is_exported(encoders, tmp_path):
    further = {"taxonomy": load_taxonomy("value-imprint").to_dict(), "loss": "bce"}
    model = classifier(encoders["bert"], further=[further | {"class_weights": None, "loss_settings": None}])
    blank = Calibration(model.labels, (2.0,) * 20, (0.5,) * 20, True, True, False)
    _, compared = exported(model, blank, tmp_path / "out")
    assert compared.difference < 1e-6
    loaded = ImprintForSequenceClassification.from_pretrained(tmp_path / "out")
    assert list(loaded.config.id2label.values()) == list(load_taxonomy("schwartz").labels)


def test_a_wide_hidden_layer_needs_code(encoders, tmp_path):
    torch.manual_seed(1)
    view, taxonomy = ViewRequest("dialogue", "head", 40), load_taxonomy("schwartz")
    options = {"pooling": "cls", "head": "mlp", "head_width": 17}
    model = ValueClassifier.from_pretrained(encoders["deberta-v3"], taxonomy, view, **options).eval()
    written, compared = exported(model, calibrated(model, TEXTS), tmp_path / "out")
    assert written is None
    assert compared.difference < 1e-6
