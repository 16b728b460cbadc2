"""Every architecture with every head and every way to train the encoder."""

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.classifier import Optimisation, ValueClassifier, load_classifier, read_checkpoint
from models.digest import weights_digest
from models.encoder import load_pretrained, max_positions
from models.heads import HEADS
from models.inference import evaluation_mode

VIEW = ViewRequest("dialogue", "head", 32)
TAXONOMY = load_taxonomy("schwartz")
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.1, "targets": []}
TRAININGS = ("full", "frozen", "lora")
ARCHITECTURES = ("bert", "roberta", "deberta-v3", "modernbert")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.tensor([[2, 9, 10, 11, 3, 0, 0], [2, 12, 13, 14, 15, 16, 3]])
MASK = (IDS != 0).long()
TARGETS = torch.tensor([[1, 0] * 10, [0, 1] * 10])


def tiny_network(architecture, size):
    """Build the architecture as its published models are configured, at width 16."""
    common = SIZES | {"vocab_size": size, "pad_token_id": 0}
    match architecture:
        case "bert":
            return BertModel(BertConfig(**common, max_position_embeddings=40))
        case "roberta":
            # One position for the padding token, and one that is never used.
            return RobertaModel(RobertaConfig(**common, max_position_embeddings=41, type_vocab_size=1))
        case "deberta-v3":
            return DebertaV2Model(
                DebertaV2Config(
                    **common,
                    max_position_embeddings=40,
                    relative_attention=True,
                    position_buckets=8,
                    norm_rel_ebd="layer_norm",
                    share_att_key=True,
                    pos_att_type=["p2c", "c2p"],
                    max_relative_positions=-1,
                    position_biased_input=False,
                    type_vocab_size=0,
                )
            )
        case _:
            common |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
            return ModernBertModel(ModernBertConfig(**common, max_position_embeddings=40, local_attention=8))


@pytest.fixture(scope="session")
def folders(tiny_encoder, tmp_path_factory):
    """One folder in Hugging Face layout per architecture, with the word-list tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    made = {}
    for architecture in ARCHITECTURES:
        made[architecture] = tmp_path_factory.mktemp(architecture)
        torch.manual_seed(0)
        tiny_network(architecture, len(tokenizer)).save_pretrained(made[architecture])
        tokenizer.save_pretrained(made[architecture])
    return made


def built(folder, head, training):
    torch.manual_seed(1)
    return ValueClassifier.from_pretrained(
        load_pretrained(str(folder)),
        TAXONOMY,
        VIEW,
        head=head,
        head_width=8 if head == "mlp" else None,
        encoder_training=training,
        lora=LORA if training == "lora" else None,
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
        model._loss(model(IDS, MASK), TARGETS).backward()
        if step == 0:
            lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        optimizer.step()
    assert not lacking  # the state of such a parameter would be missing on resume
    return optimizer


def scores(model):
    with evaluation_mode(model):
        return model(IDS, MASK)


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
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
def test_padding_changes_no_score(folders, architecture):
    model = built(folders[architecture], "label-attention", "full")
    with evaluation_mode(model):
        alone = model(IDS[:1, :5], MASK[:1, :5])
    torch.testing.assert_close(alone, scores(model)[:1], rtol=0, atol=1e-5)


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
@pytest.mark.parametrize("training", TRAININGS)
def test_a_merged_encoder_computes_the_same(folders, architecture, training):
    model = built(folders[architecture], "linear", training)
    train(model, 3)
    merged = model.merged()
    plain = load_pretrained(str(folders[architecture])).weights
    assert merged.state_dict().keys() == plain.keys()
    assert not merged.training
    with evaluation_mode(model):
        own = model.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state[MASK == 1]
        other = merged(input_ids=IDS, attention_mask=MASK).last_hidden_state[MASK == 1]
    torch.testing.assert_close(other, own, rtol=0, atol=1e-5)
    is_moved = any(not torch.equal(merged.state_dict()[name], weight) for name, weight in plain.items())
    assert is_moved == (training != "frozen")
