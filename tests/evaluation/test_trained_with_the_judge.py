"""evaluation/judge.py: a report warns where the generator was trained with the network that judges it."""
from types import SimpleNamespace

import pytest

from conftest import small_classifier, write_checkpoint
from engine.checkpoint_index import fingerprint
from evaluation import judge
from evaluation.embedding import sha256_of

SAME, UNKNOWN = "was trained with the network that judges it (small)", "is not there to compare"


@pytest.fixture
def weights(tmp_path):
    """The prefixes of a classifier, of its copy elsewhere, and of another one."""
    values = small_classifier()
    others = {name: value + 1 for name, value in values.items()}
    return {name: write_checkpoint(tmp_path / name / "model.ckpt-1", content)
            for name, content in (("own", values), ("copy", values), ("other", others))}


@pytest.mark.parametrize("judged_by, trained, told", [
    ("copy", {"classifier": "own"}, SAME), ("other", {"classifier": "own"}, None),
    ("copy", {"classifier": "own", "pretrained_rec": "gone"}, SAME),
    ("copy", {}, SAME), ("other", {}, None), ("copy", {"pretrained_rec": "gone"}, UNKNOWN),
    ("copy", {"classifier": "own", "method_c": "none"}, None), ("copy", {"pretrained_rec": ""}, None)])
def test_the_network_is_known_by_its_content(weights, judged_by, trained, told):
    """By the fingerprint that a run keeps, wherever the file lies; for an older run, by the file that it names."""
    params = {"method_c": "magnet", "pretrained_rec": weights["own"], **trained}
    if "classifier" in params:
        params["classifier"] = fingerprint(weights[params["classifier"]])
    source = weights[judged_by]
    found = judge._warnings_of(params, SimpleNamespace(name="small", source=source, sha256=sha256_of(source)))
    assert len(found) == (told is not None) and (not told or told in found[0])
