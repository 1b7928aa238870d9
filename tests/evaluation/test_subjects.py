"""evaluation.subjects and figures: parts and halves of a set, figures as JSON."""
import json

import numpy as np
import pytest

from datasets.image_sets import Renderings
from evaluation import figures
from evaluation.subjects import halves, part_of, Subject


@pytest.fixture
def subject():
    labels = np.repeat(np.arange(5), 3).astype(np.int32)
    images = Renderings("root", [f"{label}/{i}.jpg" for i, label in enumerate(labels)], labels, list("abcde"))
    return Subject("set", images, np.arange(30, dtype=np.float32).reshape(15, 2), {"yaw": np.arange(15.)})


def test_a_part_keeps_what_belongs_together(subject):
    part = part_of(subject, [14, 3])
    assert part.images.identities == ["b", "e"] and part.images.labels.tolist() == [1, 0] and part.count == 2
    assert part.features.tolist() == [[28, 29], [6, 7]] and part.labels["yaw"].tolist() == [14, 3]


def test_halves_share_no_identity_and_lose_none(subject):
    first, second = halves(subject, seed=3)
    assert len(first.images.identities) == 3 and len(second.images.identities) == 2
    assert sorted(first.images.identities + second.images.identities) == list("abcde")
    assert sorted(first.images.names + second.images.names) == sorted(subject.images.names)
    assert halves(subject, seed=3)[0].images.names == first.images.names


def test_figures_are_json():
    found = figures.Figure(.5, float("nan"), .6, 10).as_json()
    assert found == {"value": .5, "high": .6, "n": 10}
    assert figures.not_measured("no labels").as_json() == {"not_measured": "no labels"}
    assert json.dumps(found, allow_nan=False)
