"""Which view of the audited data comes first?"""

import json

import pytest

from datamodules.preferences import read_preferences
from models.encoder import load_pretrained
from train.audit_config import AuditConfig
from train.audit_setup import build_audits
from train.audited_data import build_audited_data
from train.progress import Progress


@pytest.mark.parametrize("audits", [["value-disparity", "value-distribution"], ["value-distribution"]])
def test_the_configured_view_is_first_whichever_audit_asks_first(tiny_encoder, tmp_path, audits):
    path = tmp_path / "one.jsonl"
    prompt = "\n\nHuman: why the rain?\n\nAssistant:"
    path.write_text(json.dumps({"chosen": f"{prompt} learn", "rejected": f"{prompt} no"}), encoding="utf-8")
    config = AuditConfig(audits=audits, max_length=32)
    tokeniser = load_pretrained(str(tiny_encoder)).tokeniser()
    data = read_preferences(str(path), None)
    found = build_audited_data(config, data, build_audits(config), tokeniser, tmp_path, {}, Progress("off"))
    views = [view.view for view in found.corpus.views]
    assert views[0] == "exchange"
    assert ("response" in views) == ("value-disparity" in audits)
