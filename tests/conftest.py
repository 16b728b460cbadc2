"""Shared fixtures: real data, and a tiny world in the native layouts."""

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before transformers is imported: a test must never wait for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
# Tests run in a process per core: commands that they start must not take more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from experiments.cli import main

# Tiny tensors: a second thread only waits.
torch.set_num_threads(1)

WORD_LIST = """
human assistant how do i you we they please explain thank sorry rule law promise kind feel sad help why what
where rights fair equal animal health safe peace sleep learn know book idea respect polite tolerate view read
think is are the a to and of in it that not no yes can will should because with for on at this my your our
their
"""
WORDS = WORD_LIST.split()
# One word that gives each value away, so that a tiny classifier can learn.
CUES = {
    "Civility/Tolerance": "respect polite tolerate",
    "Duty/Accountability": "rule law promise",
    "Empathy/Helpfulness": "kind feel sad",
    "Information Seeking": "why what where",
    "Justice & Human/Animal Rights": "rights fair equal",
    "Well-being/Peace": "health safe peace",
    "Wisdom/Knowledge": "learn know book",
}


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data root, or a skip that says why."""
    root = os.environ.get("IMPRINT_DATA")
    if not root:
        pytest.skip("real data: IMPRINT_DATA is not set")
    path = Path(root)
    if not path.is_dir():
        pytest.skip(f"real data: IMPRINT_DATA={root} is not a folder")
    return path.resolve()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A BERT of two layers and width 16 with a word-list tokenizer, in Hugging Face layout."""
    folder = tmp_path_factory.mktemp("tiny-encoder")
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", ":", ".", "?", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=128,
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _sentence(seed: int, cue: str, n: int) -> str:
    """Words that depend on the seed alone, with the cue among them."""
    generator = torch.Generator().manual_seed(seed)
    words = [WORDS[int(i)] for i in torch.randint(len(WORDS) - 40, len(WORDS), (n,), generator=generator)]
    cue_words = cue.split()
    words[1] = cue_words[seed % len(cue_words)]
    return " ".join(words)


def dialogue(seed: int, cue: str, n: int = 9) -> str:
    """A short dialogue in the hh layout."""
    return f"\n\nHuman: {_sentence(seed, 'do', 6)} ?\n\nAssistant: {_sentence(seed + 10_000, cue, n)} ."


@pytest.fixture(scope="session")
def value_imprint_file(tmp_path_factory) -> Path:
    """A file in the Value Imprint layout: columns Text and Label, 140 rows."""
    path = tmp_path_factory.mktemp("value-imprint") / "annotations.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Text", "Label"])
        for i in range(140):
            label = list(CUES)[i % 7]
            writer.writerow([dialogue(i, CUES[label]), label])
    return path


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory, value_imprint_file) -> Path:
    """A data root with tiny files in every native layout."""
    root = tmp_path_factory.mktemp("tiny-root")
    (root / "value-imprint").mkdir()
    target = root / "value-imprint" / "human_values_annotation_groundtruth.csv"
    target.write_bytes(value_imprint_file.read_bytes())
    _write_fulcra(root / "fulcra")
    _write_valueeval(root / "valueeval")
    _write_hh_quality(root / "hh-audit")
    _write_preferences(root)
    return root


def _write_fulcra(folder: Path) -> None:
    folder.mkdir()
    signs = ["benevolence: +1", "security: +1", "power: -1", "conformity: 1", "universalism: -1"]
    cues = list(CUES.values())
    with (folder / "trustworthy_data.jsonl").open("w", encoding="utf-8") as file:
        for i in range(100):
            types = [signs[i % 5], signs[(i + 1) % 5]] if i % 2 else [signs[i % 5]]
            text = f"Human: {_sentence(i, 'do', 5)} ?\nBob: {_sentence(i + 500, cues[i % 5], 8)} ."
            row = {"dialogue": text, "value_items": [], "value_types": types}
            file.write(json.dumps(row | {"query_source": "x", "response_source": "y"}) + "\n")


def _write_valueeval(folder: Path) -> None:
    from datamodules.taxonomy import load_taxonomy

    folder.mkdir()
    names = [value.name for value in load_taxonomy("valueeval").values]
    for part, n in (("training", 120), ("validation", 40)):
        arguments = ["Argument ID\tConclusion\tStance\tPremise"]
        labels = ["\t".join(["Argument ID", *names])]
        for i in range(n):
            cue = list(CUES.values())[i % 7]
            topic = f"we should {_sentence(1000 + i // 4 + (500 if part == 'validation' else 0), 'help', 4)}"
            arguments.append(f"{part[0]}{i}\t{topic}\tin favor of\t{_sentence(i, cue, 8)}")
            labels.append("\t".join([f"{part[0]}{i}", *("1" if k % 7 == i % 7 else "0" for k in range(len(names)))]))
        (folder / f"arguments-{part}.tsv").write_text("\n".join(arguments) + "\n", encoding="utf-8")
        (folder / f"labels-{part}.tsv").write_text("\n".join(labels) + "\n", encoding="utf-8")


def _write_hh_quality(folder: Path) -> None:
    folder.mkdir()
    cues = {"acceptable": "respect polite", "unhelpful": "why what", "harmful": "sad rule"}
    columns = ["", "id", "prompt", "chosen_response", "rejected_response", "lablej"]
    path = folder / "df_labeledharmlessoutputs_second_pass.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for i in range(90):
            label = list(cues)[i % 3]
            prompt = f"\n\nHuman: {_sentence(2000 + i, 'do', 6)} ?\n\nAssistant:"
            sides = [f" {_sentence(3000 + i + 200 * k, cues[label], 8)} ." for k in range(2)]
            writer.writerow([i, 118_400 + i, prompt, *sides, label if i < 75 else ""])


def _write_preferences(root: Path) -> None:
    cues = list(CUES.values())
    (root / "hh-rlhf" / "harmless-base").mkdir(parents=True)
    with gzip.open(root / "hh-rlhf" / "harmless-base" / "test.jsonl.gz", "wt", encoding="utf-8") as file:
        for i in range(20):
            prompt = f"\n\nHuman: {_sentence(i, 'why', 6)} ?\n\nAssistant:"
            sides = {"chosen": _sentence(i + 30, cues[i % 7], 9), "rejected": _sentence(i + 60, cues[(i + 1) % 7], 5)}
            file.write(json.dumps({side: f"{prompt} {answer} ." for side, answer in sides.items()}) + "\n")
    (root / "webgpt").mkdir()
    with (root / "webgpt" / "comparisons.jsonl").open("w", encoding="utf-8") as file:
        for i in range(12):
            score = (0.5, -0.5, 0.0)[i % 3]
            row = {"question": {"full_text": f"{_sentence(i, 'what', 6)} ?"}, "score_0": score, "score_1": -score}
            row |= {"answer_0": _sentence(i + 90, cues[i % 7], 8), "answer_1": _sentence(i + 120, cues[(i + 2) % 7], 8)}
            file.write(json.dumps(row) + "\n")
    (root / "alpaca-gpt4").mkdir()
    rows = [
        {"instruction": _sentence(i, "help", 5), "input": "", "output": [_sentence(i + 1, cues[i % 7], 9), "no ."]}
        for i in range(12)
    ]
    (root / "alpaca-gpt4" / "comparison_gpt4_data_en.json").write_text(json.dumps(rows), encoding="utf-8")


@pytest.fixture
def tiny_run(tiny_encoder, tiny_root, tmp_path) -> Callable[..., int]:
    """Run `imprint fit` in process on the tiny world; takes further flags, gives the exit code.

    The run directory appears under `tmp_path / "runs"`.
    """

    def run(*flags: str) -> int:
        return main(
            [
                "fit",
                f"--model.encoder={tiny_encoder}",
                f"--data.root={tiny_root}",
                "--data.max_length=48",
                "--data.val_fraction=0.2",
                "--audit.max_length=64",
                "--audit.precision=float32",
                "--trainer.precision=float32",
                f"--run.root={tmp_path / 'runs'}",
                f"--run.cache_dir={tmp_path / 'cache'}",
                *flags,
            ]
        )

    return run


@pytest.fixture
def only_run(tmp_path) -> Callable[[], Path]:
    """Give the one run directory under `tmp_path / "runs"`."""

    def find() -> Path:
        (run,) = (tmp_path / "runs").iterdir()
        return run

    return find
