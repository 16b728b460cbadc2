"""Every architecture with every head and every way to train the encoder."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from datamodules.batching import pad
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import Optimisation, ValueClassifier, load_classifier, read_checkpoint
from models.digest import weights_digest
from models.encoder import load_pretrained, max_positions
from models.heads import HEADS
from models.inference import evaluation_mode
from models.windows import token_states

VIEW = ViewRequest("dialogue", "head", 32)
TAXONOMY = load_taxonomy("schwartz")
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.1, "targets": []}
TRAININGS = ("full", "frozen", "lora")
ARCHITECTURES = ("bert", "roberta", "deberta-v2", "deberta-v3", "modernbert")
WORDS = [f"word{k}" for k in range(60)]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
LENGTHS = (5, 7)
# All of one architecture, and of the others every head and every way to train once.
COMBINATIONS = [("bert", head, training) for head in HEADS for training in TRAININGS]
COMBINATIONS += [
    (name, *pair) for name in ARCHITECTURES[1:] for pair in zip(HEADS, ("full", "lora", "frozen"), strict=True)
]
TARGETS = torch.tensor([[1, 0] * 10, [0, 1] * 10])


# As published: RoBERTa pads with 1 and counts positions from behind it, and never uses its position 0.
FRAMES = {name: {"pad": 0, "cls": 2, "sep": 3} for name in ARCHITECTURES} | {"roberta": {"pad": 1, "cls": 0, "sep": 2}}
NAMES = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]"}


def tiny_network(architecture, size):
    """Build the architecture as its published models are configured, at width 16 and with 40 positions."""
    common = SIZES | {"vocab_size": size, "pad_token_id": FRAMES[architecture]["pad"]}
    relative = {"max_position_embeddings": 40, "relative_attention": True, "position_buckets": 8}
    relative |= {"norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"]}
    relative |= {"max_relative_positions": -1, "position_biased_input": False, "type_vocab_size": 0}
    match architecture:
        case "bert":
            return BertModel(BertConfig(**common, max_position_embeddings=40))
        case "roberta":
            return RobertaModel(RobertaConfig(**common, max_position_embeddings=42, type_vocab_size=1))
        case "deberta-v2":
            return DebertaV2Model(DebertaV2Config(**common, **relative, conv_kernel_size=3, conv_act="gelu"))
        case "deberta-v3":
            return DebertaV2Model(DebertaV2Config(**common, **relative))
        case _:
            common |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
            return ModernBertModel(ModernBertConfig(**common, max_position_embeddings=40, local_attention=8))


def tiny_tokenizer(architecture):
    """A list of words behind the special tokens, whose numbers are those of the published tokenizer."""
    special = {NAMES[name]: number for name, number in FRAMES[architecture].items()}
    left = iter(number for number in range(100) if number not in special.values())
    vocabulary = special | {word: next(left) for word in ("[UNK]", ":", ".", "?", *WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    frame = [(NAMES[name], special[NAMES[name]]) for name in ("cls", "sep")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    tokens = {f"{name}_token": NAMES[name] for name in NAMES}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", model_max_length=1000, **tokens)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder in Hugging Face layout per architecture."""
    made = {}
    for architecture in ARCHITECTURES:
        made[architecture] = tmp_path_factory.mktemp(architecture)
        torch.manual_seed(0)
        tokenizer = tiny_tokenizer(architecture)
        tiny_network(architecture, len(tokenizer)).save_pretrained(made[architecture])
        tokenizer.save_pretrained(made[architecture])
    return made


def batch(model):
    """Two texts, the first of them padded, and their mask."""
    texts = [("", " ".join(WORDS[length : 2 * length - 2])) for length in LENGTHS]
    return pad(model.tokeniser.encode(texts, 32).ids, model.tokeniser.pad_id)


def built(folder, head, training, **options):
    torch.manual_seed(1)
    return ValueClassifier.from_pretrained(
        load_pretrained(str(folder)),
        TAXONOMY,
        VIEW,
        head=head,
        head_width=8 if head == "mlp" else None,
        encoder_training=training,
        lora=LORA if training == "lora" else None,
        **options,
    )


def optimiser(model):
    model.optimisation = Optimisation(0.01, 0.01, 0.01, 0.0, "constant", 4, 0)
    return model.configure_optimizers()["optimizer"]


def train(model, steps):
    """Take steps as Lightning does, without its trainer."""
    optimizer = optimiser(model)
    model.on_train_epoch_start()
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model._loss(model(*batch(model)), TARGETS).backward()
        if step == 0:
            lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        optimizer.step()
    assert not lacking  # the state of such a parameter would be missing on resume
    return optimizer


def scores(model):
    with evaluation_mode(model):
        return model(*batch(model))


@pytest.mark.parametrize(("architecture", "head", "training"), COMBINATIONS)
def test_it_trains_what_it_says_and_its_checkpoint_rebuilds_it(folders, tmp_path, architecture, head, training):
    model = built(folders[architecture], head, training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = scores(model)
    assert first.shape == (2, 20)
    assert first.dtype == torch.float32
    optimizer = train(model, 2)  # adapters begin at zero: half of their weights get a gradient in the second step
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    encoder = {name for name, _ in model.named_parameters() if name.startswith("encoder.")}
    adapters = {name for name in encoder if ".lora_" in name}
    expected = {"full": encoder, "frozen": set(), "lora": adapters}[training]
    assert changed & encoder == expected
    assert bool(expected) == (training != "frozen")
    assert {name for name, p in model.named_parameters() if p.requires_grad and name in encoder} == expected
    assert changed - encoder == before.keys() - {n for n in before if n.startswith("encoder.")}
    second = scores(model)
    assert bool(torch.isfinite(second).all())
    assert not torch.allclose(first, second)

    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content |= {"epoch": 0, "global_step": 2, "loops": {}, "lr_schedulers": [{}], "pytorch-lightning_version": "2.6.6"}
    torch.save(content | {"optimizer_states": [optimizer.state_dict()]}, tmp_path / "a.ckpt")
    again = load_classifier(tmp_path / "a.ckpt")
    assert weights_digest(again.state_dict()) == weights_digest(model.state_dict())
    torch.testing.assert_close(scores(again), second, rtol=0, atol=0)
    assert read_checkpoint(tmp_path / "a.ckpt", "--resume")["epoch"] == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_texts_are_framed_and_padded_as_the_encoder_knows_it(folders, architecture):
    model = built(folders[architecture], "linear", "full")
    (first, second), mask = batch(model)
    frame = FRAMES[architecture]
    assert (first[0], first[4], *first[5:]) == (frame["cls"], frame["sep"], frame["pad"], frame["pad"])
    assert (second[0], second[-1]) == (frame["cls"], frame["sep"])
    assert mask.tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert model.encoder.config.pad_token_id == frame["pad"]


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention", "labels"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_no_score(folders, architecture, pooling):
    options = {"head": "label-attention"} if pooling == "labels" else {"pooling": pooling}
    model = built(folders[architecture], options.pop("head", "linear"), "full", **options)
    train(model, 2)
    ids, mask = batch(model)
    with evaluation_mode(model):
        alone = model(ids[:1, :5], mask[:1, :5])
    torch.testing.assert_close(alone, scores(model)[:1], rtol=0, atol=1e-5)
    assert not torch.allclose(scores(model)[0], scores(model)[1], atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_order_of_tokens_matters(folders, architecture):
    model = built(folders[architecture], "linear", "full")
    ids, mask = batch(model)
    with evaluation_mode(model):
        turned = model(ids[1:, [0, 5, 4, 3, 2, 1, 6]], mask[1:])
    assert not torch.allclose(turned, scores(model)[1:], atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_windows_are_read_as_texts_of_their_own(folders, architecture):
    """Also one as long as the encoder reads, beside one that is filled up to it."""
    encoder = built(folders[architecture], "linear", "full").encoder.eval()
    ids = torch.tensor([[2, *range(7, 45), 3, 2, *range(7, 30), 3], [2, *range(20, 58), 3, 2, 50, 3, *[0] * 22]])
    with torch.no_grad():
        states = token_states(encoder, ids, (ids != 0).long(), 40)
        for own, row in zip(states, ids, strict=True):
            for window in (slice(0, 40), slice(40, int((row != 0).sum()))):
                part = row[None, window]
                alone = encoder(input_ids=part, attention_mask=torch.ones_like(part)).last_hidden_state[0]
                torch.testing.assert_close(own[window], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_longest_sequence_is_read_and_a_longer_one_is_not_promised(folders, architecture):
    pretrained = load_pretrained(str(folders[architecture]))
    assert pretrained.max_positions == 40
    model = built(folders[architecture], "linear", "full")
    with evaluation_mode(model):
        assert bool(torch.isfinite(model(torch.full((1, 40), 9), torch.ones(1, 40, dtype=torch.int64))).all())
        if architecture in ("bert", "roberta"):  # the others have no table of positions
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.full((1, 41), 9), torch.ones(1, 41, dtype=torch.int64))
    assert max_positions(model.encoder, 24) == 24


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bf16_scores_are_those_of_float32_but_for_rounding(folders, architecture):
    model = built(folders[architecture], "linear", "full")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = scores(model)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, scores(model))
    torch.testing.assert_close(rounded, scores(model), rtol=0, atol=0.03)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("training", TRAININGS)
def test_a_merged_encoder_computes_the_same(folders, architecture, training):
    model = built(folders[architecture], "linear", training)
    train(model, 3)
    merged = model.merged()
    plain = load_pretrained(str(folders[architecture])).weights
    assert merged.state_dict().keys() == plain.keys()
    assert not merged.training
    ids, mask = batch(model)
    with evaluation_mode(model):
        own = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
        other = merged(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
    torch.testing.assert_close(other, own, rtol=0, atol=1e-5)
    is_moved = any(not torch.equal(merged.state_dict()[name], weight) for name, weight in plain.items())
    assert is_moved == (training != "frozen")
