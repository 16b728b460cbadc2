"""Tiny run directories with predictions that are made up, in the layout that a finished run has."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from train.config import Config, config_to_dict


@pytest.fixture
def made_run(tmp_path):
    """Write a run directory and give its path; settings are given by `section.name`, predictions per text and label."""

    def make(name, targets, probabilities, text_ids=None, groups=None, labels="ab", weights="00000001", **settings):
        path = tmp_path / "made" / name
        (path / "predictions").mkdir(parents=True)
        config = config_to_dict(Config())
        for setting, value in {"run.experiment": name.split("-")[0], **settings}.items():
            section, field = setting.split(".")
            config.setdefault(section, {})[field] = value
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        (path / "env.json").write_text(json.dumps({"format": 1, "parent": None, "device": "cpu"}))
        targets, probabilities = np.asarray(targets), np.asarray(probabilities, dtype=float)
        ids = [f"t{i}" for i in range(len(targets))] if text_ids is None else list(text_ids)
        numbers = np.arange(len(ids)) if groups is None else np.asarray(groups)
        columns = {"text_id": ids, "group_id": [f"g{k}" for k in numbers], "group_number": numbers}
        for k, label in enumerate(labels):
            columns[label] = probabilities[:, k]
            columns[f"{label}_on"] = probabilities[:, k] >= 0.5
            columns[f"{label}_true"] = pa.array(targets[:, k] == 1, mask=targets[:, k] == -1)
        pq.write_table(pa.table(columns), path / "predictions" / f"{weights}-test.parquet")
        return Path(path)

    return make
