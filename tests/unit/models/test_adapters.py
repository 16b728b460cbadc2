import pytest
import torch
from torch import nn

from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.views import ViewRequest
from models.adapters import Lora, add_adapters, load_base_weights, matched_layers, merged_weights
from models.classifier import Optimisation, ValueClassifier
from models.digest import weights_digest
from models.encoder import build_encoder, load_pretrained
from models.optimisation import parameter_groups

VIEW = ViewRequest("dialogue", "head", 48)
ATTENTION = [f"encoder.layer.{k}.attention.self.{name}" for k in (0, 1) for name in ("query", "value")]
IDS = torch.tensor([[2, 7, 8, 3]])


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def adapted(tiny, **changes):
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": []} | changes
    torch.manual_seed(0)
    return ValueClassifier.from_pretrained(
        tiny, load_taxonomy("value-imprint"), VIEW, encoder_training="lora", lora=lora
    )


def adapters_of(model):
    return sorted({name.split(".lora_")[0].removeprefix("encoder.") for name in model.state_dict() if ".lora_" in name})


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["query", "value"], ATTENTION),
        (["attention.self.query"], ATTENTION[::2]),
        (["layer.1.attention.self.*"], [f"encoder.layer.1.attention.self.{n}" for n in ("query", "key", "value")]),
        (["encoder.layer.0.output.dense"], ["encoder.layer.0.output.dense"]),
        (
            ["output.dense"],
            [f"encoder.layer.{k}.{n}" for k in (0, 1) for n in ("attention.output.dense", "output.dense")],
        ),
    ],
)
def test_patterns_name_linear_layers(tiny, patterns, expected):
    assert matched_layers(build_encoder(tiny.config), patterns) == expected
    assert adapters_of(adapted(tiny, targets=patterns)) == sorted(expected)


# FULCRA's own pattern says "layers.", which occurs in no DeBERTa: its adapters were silently left out.
@pytest.mark.parametrize("pattern", ["layers.*.query", "q", "uery", "LayerNorm", "word_embeddings", ""])
def test_a_pattern_that_matches_nothing_is_told_with_the_names_there_are(tiny, pattern):
    with pytest.raises(InputError, match="end of no linear layer's name") as raised:
        adapted(tiny, targets=["query", pattern])
    assert repr(pattern) in raised.value.found
    assert "encoder.layer.*.attention.self.query, encoder.layer.*.attention.self.key" in raised.value.needed
    assert raised.value.needed.count("attention.self.query") == 1
    assert raised.value.fix == "--model.lora_targets"


def test_an_architecture_without_a_default_is_told():
    with pytest.raises(InputError, match=r"no layers that peft would adapt in a novel encoder.*lora_targets"):
        Lora(2, 4.0, 0.0).with_defaults("novel")
    assert Lora(2, 4.0, 0.0).with_defaults("modernbert").targets == ("Wqkv",)
    assert Lora(2, 4.0, 0.0, ("x",)).with_defaults("novel").targets == ("x",)


def test_what_is_left_out_has_its_default_in_the_checkpoint(tiny):
    for fields, expected in (
        ({}, {"rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": ["query", "value"]}),
        ({"alpha": 3.0, "targets": ["key"]}, {"rank": 8, "alpha": 3.0, "dropout": 0.0, "targets": ["key"]}),
    ):
        model = ValueClassifier.from_pretrained(
            tiny, load_taxonomy("value-imprint"), VIEW, encoder_training="lora", lora=fields
        )
        assert model.hparams["lora"] == expected
        assert Lora.from_dict(expected).to_dict() == expected


def test_the_checkpoint_holds_the_targets_that_were_chosen(tiny):
    model = adapted(tiny)
    assert adapters_of(model) == sorted(ATTENTION)
    assert model.hparams["lora"] == {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": ["query", "value"]}


def test_adapters_change_nothing_until_they_are_trained(tiny):
    plain = ValueClassifier.from_pretrained(tiny, load_taxonomy("value-imprint"), VIEW).eval()
    mask = torch.ones_like(IDS)
    assert torch.equal(adapted(tiny).eval().features(IDS, mask), plain.features(IDS, mask))


@pytest.mark.parametrize("rank", [1, 3])
def test_rank_sets_the_size_and_only_adapters_are_trained(tiny, rank):
    model = adapted(tiny, rank=rank)
    trained = {name: p for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in trained)
    assert sum(p.numel() for p in trained.values()) == 4 * rank * (16 + 16)
    counts = model.parameter_counts()
    assert counts["trainable"] == 4 * rank * 32 + 7 * 17
    assert counts["total"] == counts["trainable"] + sum(weight.numel() for weight in tiny.weights.values())


def test_adapters_get_the_rate_of_the_encoder(tiny):
    model = adapted(tiny)
    groups = parameter_groups(model, Optimisation(0.1, 1.0, 0.0, 0.0, "constant", 1, 0))
    fast = {id(p) for group in groups for p in group["params"] if group["lr"] == 0.1}
    assert fast == {id(p) for name, p in model.named_parameters() if ".lora_" in name}


def test_alpha_scales_what_adapters_say(tiny):
    outputs = []
    for alpha in (0.0, 4.0, 8.0):
        model = adapted(tiny, alpha=alpha) if alpha else adapted(tiny)
        if alpha:
            for name, parameter in model.named_parameters():
                if ".lora_B" in name:
                    nn.init.constant_(parameter, 0.1)
        outputs.append(merged_weights(model.encoder)["encoder.layer.0.attention.self.query.weight"])
    torch.testing.assert_close(outputs[2] - outputs[0], 2 * (outputs[1] - outputs[0]))
    assert not torch.equal(outputs[0], outputs[1])


def test_dropout_of_adapters_acts_in_training_alone(tiny):
    model = adapted(tiny, dropout=0.5)
    for module in model.encoder.modules():  # no other dropout
        if isinstance(module, nn.Dropout) and module.p == 0.1:
            module.p = 0.0
    for name, parameter in model.named_parameters():
        if ".lora_B" in name:
            nn.init.constant_(parameter, 1.0)
    mask = torch.ones_like(IDS)
    model.train()
    assert not torch.equal(model.features(IDS, mask), model.features(IDS, mask))
    model.eval()
    assert torch.equal(model.features(IDS, mask), model.features(IDS, mask))


def test_the_same_seed_gives_the_same_adapters(tiny):
    digests = [weights_digest(adapted(tiny).state_dict()) for _ in range(2)]
    assert digests[0] == digests[1]
    torch.manual_seed(7)
    other = build_encoder(tiny.config)
    add_adapters(other, Lora(2, 4.0, 0.0, ("query",)))
    assert any(".lora_A" in name for name in other.state_dict())


def test_base_weights_of_another_architecture_are_not_loaded_in_part(tiny):
    encoder = build_encoder(tiny.config)
    with pytest.raises(RuntimeError, match="another encoder"):
        load_base_weights(encoder, dict(list(tiny.weights.items())[1:]))
    with pytest.raises(RuntimeError, match="another encoder"):
        load_base_weights(encoder, tiny.weights | {"more": torch.ones(1)})


@pytest.mark.parametrize(
    ("training", "lora", "text"),
    [
        ("half", None, "encoder_training 'half'.*full, frozen, lora"),
        ("lora", None, "lora without adapters"),
        ("full", {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": ["query"]}, "full with adapters"),
    ],
)
def test_impossible_settings_are_told(tiny, training, lora, text):
    with pytest.raises(InputError, match=text):
        ValueClassifier.from_pretrained(
            tiny, load_taxonomy("value-imprint"), VIEW, encoder_training=training, lora=lora
        )
