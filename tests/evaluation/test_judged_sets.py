"""evaluation.judged_sets: the run that made a set is found by what its settings tell, and no other run is."""
import json
import logging
import os

import numpy as np
import pytest

import evaluate
from conftest import write_checkpoint
from datasets.images import read_picture, save_image
from engine import checkpoint_index
from evaluation import judged_sets
from tool import call


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


# Scores

@pytest.mark.parametrize("to", ["rec", "folder"])
def test_scores_of_an_export_are_those_of_the_set(tmp_path, monkeypatch, to):
    """The same image has the same scores, however the set is stored. A set without scores has none, exported or not."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        path = tmp_path / "set" / f"{number % 2:02}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(np.full([16, 16, 3], 40 * number, np.uint8), str(path))
    assert call(evaluate, "export", "set", "--to", to, "--output", "plain").status == 0
    lines = [f"/{number % 2:02}/{number}.png {number} 0.5 {-number}\n" for number in range(5)]
    (tmp_path / "set" / "confidence_scores.csv").write_text("".join(lines))
    assert call(evaluate, "export", "set", "--to", to, "--output", "out").status == 0
    found = {name: judged_sets.find_sets(name, "set") for name in ("set", "out", "plain")}
    assert found["plain"].scores == {} and set(found["out"].scores) == {"d_score", "s_score", "c_score"}
    scores = {}
    for name in ("set", "out"):
        root, names = found[name].judged[:2]
        rows = zip(*(found[name].scores[key] for key in ("d_score", "s_score", "c_score")))
        colours = [read_picture(os.path.join(root, image)).getpixel((0, 0))[0] for image in names]
        scores[name] = dict(zip(colours, rows))
    assert scores["out"].keys() == scores["set"].keys() == {0, 40, 80, 120, 160, 200}
    for colour, expected in scores["set"].items():
        np.testing.assert_array_equal(scores["out"][colour], expected)
    assert scores["out"][80] == (2, .5, -2) and np.isnan(scores["out"][200]).all()
