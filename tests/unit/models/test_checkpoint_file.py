"""Are weights that are no plain tensors told before torch trips over them?"""

from pathlib import Path

import pytest
import torch

from datamodules.errors import InputError
from models.checkpoint_file import check_progress, check_weights

EXPECTED = {"head.weight": torch.ones(2, 2), "head.bias": torch.ones(2)}
SPARSE = torch.eye(2).to_sparse()


def test_whole_weights_pass():
    check_weights(dict(EXPECTED), EXPECTED, Path("a.ckpt"), "--checkpoint")


def test_a_sparse_tensor_is_told():
    text = r"a\.ckpt, whose weights are not those .*\(head\.weight is not a dense tensor\); .*fix: --checkpoint"
    with pytest.raises(InputError, match=text):
        check_weights({**EXPECTED, "head.weight": SPARSE}, EXPECTED, Path("a.ckpt"), "--checkpoint")


def test_a_sparse_state_of_the_optimiser_is_told():
    names = ("epoch", "global_step", "loops", "lr_schedulers", "pytorch-lightning_version")
    state = {"exp_avg": torch.ones(2, 2), "exp_avg_sq": torch.ones(2, 2)}
    whole = {name: 0 for name in names} | {"optimizer_states": [{"state": {0: state}}]}
    check_progress(whole, [EXPECTED["head.weight"]], Path("a.ckpt"), "--resume")
    state["exp_avg"] = SPARSE
    with pytest.raises(InputError, match="whose optimiser state is not that of its own weights"):
        check_progress(whole, [EXPECTED["head.weight"]], Path("a.ckpt"), "--resume")
