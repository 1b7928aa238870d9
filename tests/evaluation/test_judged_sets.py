"""evaluation.judged_sets: the run that made a set is found by what its settings tell, and no other run is."""
import json
import logging
import os

import numpy as np
import pytest

from conftest import write_checkpoint
from engine import checkpoint_index
from evaluation import judged_sets


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A folder with a run of two checkpoints, and a set that was made by the first of them."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("logs/run")
    os.makedirs("data/set")
    for step in (1, 2):
        write_checkpoint(tmp_path / f"logs/run/model.ckpt-{step}", {"weight": np.full(3, step, np.float32)})
    (tmp_path / "logs/run/params.json").write_text("{}")
    settle(tmp_path, run="../../logs/run", weights=checkpoint_index.named("logs/run/model.ckpt-1"))
    return tmp_path


def settle(folder, **settings):
    (folder / "data/set/settings.json").write_text(json.dumps(settings))


def test_the_run_is_found_with_the_checkpoint_that_made_the_set(made):
    assert judged_sets.generator_of("data/set") == "logs/run"
    settings = judged_sets.settings_in("data/set")
    assert judged_sets.weights_of("logs/run", settings).endswith("model.ckpt-1")


def test_a_run_with_other_weights_is_not_taken(made, caplog):
    with caplog.at_level(logging.INFO):
        settle(made, run="../../logs/run", weights="model.ckpt-1 0123456789abcdef")
        assert judged_sets.generator_of("data/set") == ""
        settle(made, run="../../logs/other", weights=checkpoint_index.named("logs/run/model.ckpt-1"))
        assert judged_sets.generator_of("data/set") == ""
    assert len(caplog.records) == 2 and "--generator" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"run": 7}', '{"run": "../../logs/run"}',
                                     '{"run": "../../logs/run", "weights": 3}'])
def test_settings_that_tell_no_run(made, content):
    (made / "data/set/settings.json").write_text(content)
    assert judged_sets.generator_of("data/set") == ""
