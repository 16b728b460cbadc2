import numpy as np
import pytest
import torch
from torch.nn import functional

from datamodules.batching import pad
from datamodules.errors import InputError
from datamodules.taxonomy import load_taxonomy
from datamodules.tokenise import Tokeniser
from datamodules.views import ViewRequest
from models.classifier import ValueClassifier, load_classifier
from models.digest import weights_digest
from models.encoder import load_pretrained
from models.export import check_exportable
from models.features import encoder_digest
from models.heads import LabelAttention, definition_queries, label_texts
from models.inference import evaluation_mode, score_tokens
from models.windows import token_states

WINDOW = 16
VIEW = ViewRequest("dialogue", "head", 56)
TAXONOMY = load_taxonomy("value-imprint")
# In one window, just one, just two, one token in the third, and four of which the last is short.
N_WORDS = (3, 14, 28, 29, 50)
WORDS = ["human", "assistant", "how", "do", "you", "we", "please", "explain", "thank", "sorry", "sad"]
ARCHITECTURES = [
    {},
    {"pooling": "cls"},
    {"pooling": "attention"},
    {"head": "label-attention"},
    {"head": "mlp", "head_width": 8},
]


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    return load_pretrained(str(tiny_encoder))


def built(tiny, window=WINDOW, **options):
    torch.manual_seed(0)
    model = ValueClassifier.from_pretrained(tiny, TAXONOMY, VIEW, window=window, **options)
    if isinstance(model.head, LabelAttention):
        # Such that it looks at some tokens more than at others.
        model.head.set_queries(torch.randn(7, 16, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def random_texts(n_words=N_WORDS, seed=0):
    """Random words, each one token."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, n)) for n in n_words]


def tokens(model, texts):
    return model.tokeniser.encode([("", text) for text in texts], VIEW.max_length).ids


def by_loop(model, ids):
    """Encode one text window by window: what windows mean, written out plainly."""
    parts = [torch.tensor([ids[start : start + WINDOW]]) for start in range(0, len(ids), WINDOW)]
    return [model.encoder(input_ids=part, attention_mask=torch.ones_like(part)).last_hidden_state[0] for part in parts]


def test_texts_are_laid_out_as_the_other_tests_need_them(tiny):
    assert [len(ids) for ids in tokens(built(tiny), random_texts())] == [5, 16, 32, 35, 56]


def test_states_are_those_of_a_loop_over_windows(tiny):
    model = built(tiny)
    ids = tokens(model, random_texts())
    padded, mask = pad(ids, model.tokeniser.pad_id)
    with evaluation_mode(model):
        states = token_states(model.encoder, padded, mask, WINDOW)
        assert states.shape == (5, 56, 16)
        for own, row in zip(states, ids, strict=True):
            torch.testing.assert_close(own[: len(row)], torch.cat(by_loop(model, row)), rtol=0, atol=1e-6)
            # No window beyond the last one is read.
            n_read = -(-len(row) // WINDOW) * WINDOW
            assert not bool(own[n_read:].any())


def test_pooling_joins_all_windows(tiny):
    for pooling in ("mean", "cls"):
        model = built(tiny, pooling=pooling)
        ids = tokens(model, random_texts())
        with evaluation_mode(model):
            found = model.features(*pad(ids, model.tokeniser.pad_id))
            for own, row in zip(found, ids, strict=True):
                windows = by_loop(model, row)
                firsts = torch.stack([window[0] for window in windows])
                expected = torch.cat(windows).mean(dim=0) if pooling == "mean" else firsts.mean(dim=0)
                torch.testing.assert_close(own, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_neither_batch_nor_padding_matters(tiny, options):
    model = built(tiny, **options)
    ids = tokens(model, random_texts())
    with evaluation_mode(model):
        together = model(*pad(ids, model.tokeniser.pad_id))
        alone = torch.cat([model(*pad([row], model.tokeniser.pad_id)) for row in ids])
        much = [functional.pad(x, (0, 41)) for x in pad(ids, model.tokeniser.pad_id)]
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(model(*much), alone, rtol=0, atol=1e-6)
    lengths = np.array([len(row) for row in ids])
    for budget in (16, 100, 10_000):
        scored = score_tokens(model, ids, lengths, model.tokeniser.pad_id, "float32", budget)
        np.testing.assert_allclose(scored, alone.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_a_text_that_fits_in_one_window_is_scored_as_without_windows(tiny, options):
    with_windows, plain = built(tiny, **options), built(tiny, window=None, **options)
    assert weights_digest(with_windows.state_dict()) == weights_digest(plain.state_dict())
    texts = random_texts((1, 5, 14, 13))
    ids = tokens(with_windows, texts)
    assert ids == tokens(plain, texts)
    batch = pad(ids, plain.tokeniser.pad_id)
    with evaluation_mode(plain), evaluation_mode(with_windows):
        assert torch.equal(with_windows(*batch), plain(*batch))
        # Beside a long text, too.
        longer = pad([*ids, *tokens(with_windows, random_texts((50,)))], plain.tokeniser.pad_id)
        torch.testing.assert_close(with_windows(*longer)[:-1], plain(*batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", ARCHITECTURES)
def test_gradients_reach_every_window(tiny, options):
    model = built(tiny, **options)
    # Every content token stands in the text once.
    ids = [7 + i for i in range(50)]
    text = torch.tensor([[2, *ids[:14], 3, 2, *ids[14:28], 3, 2, *ids[28:42], 3, 2, *ids[42:], 3]])
    model(text, torch.ones_like(text)).sum().backward()
    moved = model.encoder.embeddings.word_embeddings.weight.grad.abs().sum(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == [2, 3, *ids]


def learnt(tiny, window, max_length):
    """Accuracy on new texts after training on texts whose last words alone tell the label."""

    def texts(seed):
        rng = np.random.default_rng(seed)
        holds = rng.integers(2, size=64)
        own = [f"{' '.join(rng.choice(WORDS, 38))} {('respect ', 'law ')[label] * 4}" for label in holds]
        ids = model.tokeniser.encode([("", text) for text in own], max_length).ids
        return *pad(ids, model.tokeniser.pad_id), torch.from_numpy(holds).float()

    model = built(tiny, window)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for step in range(20):
        *batch, holds = texts(step)
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(*batch)[:, 0], holds).backward()
        optimizer.step()
    *batch, holds = texts(1000)
    with evaluation_mode(model):
        return float(((model(*batch)[:, 0] > 0) == (holds == 1)).float().mean())


def test_windows_learn_from_an_end_that_a_cut_hides(tiny):
    assert learnt(tiny, None, WINDOW) < 0.7
    assert learnt(tiny, WINDOW, 48) > 0.95


def test_a_checkpoint_keeps_its_window_and_one_of_before_has_none(tiny, tmp_path):
    model = built(tiny)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "epoch": 0, "global_step": 1}
    content |= {"pytorch-lightning_version": "2.6.6", "loops": {}}
    torch.save(content, tmp_path / "windows.ckpt")
    again = load_classifier(tmp_path / "windows.ckpt")
    assert again.tokeniser.window == WINDOW
    batch = pad(tokens(again, random_texts()), again.tokeniser.pad_id)
    with evaluation_mode(model):
        assert torch.equal(again(*batch), model(*batch))
    del content["hyper_parameters"]["window"]
    torch.save(content, tmp_path / "before.ckpt")
    assert load_classifier(tmp_path / "before.ckpt").tokeniser.window is None


def test_definitions_longer_than_a_window_are_cut_to_one(tiny):
    """The queries of label attention begin with them; they are read at once."""
    model = ValueClassifier.from_pretrained(tiny, TAXONOMY, VIEW, window=8, head="label-attention")
    short = Tokeniser(tiny.tokenizer_json, tiny.pad_id, max_positions=8)
    expected = definition_queries(model.encoder, short, label_texts(TAXONOMY))
    assert torch.equal(model.head.query, expected)


def test_no_tokenizer_of_transformers_lays_out_windows(tiny):
    check_exportable(built(tiny, None))
    with pytest.raises(InputError, match="reads long texts in windows of 16 tokens"):
        check_exportable(built(tiny))


def test_cached_vectors_of_another_window_are_not_taken(tiny):
    digests = [encoder_digest(built(tiny, window, encoder_training="frozen")) for window in (None, 16, 32)]
    assert len(set(digests)) == 3
