"""graph.py with two towers on one machine: shared variables, the same step as one tower with the whole batch."""
import os

import numpy as np
import pytest

from config import get_config
from conftest import NARROW, words
from datasets.image_sets import find_pairs, find_photos, find_renderings
from preflight import Data
from trainer import Trainer

HINGE = dict(game="hinge", d_layers="1,3", augment="shift,cut,color,zoom,shade", r1=.1, upsampling="resize",
             lambda_f=1, lambda_m=2, lambda_e=2, chroma_weight=2, pixel_loss="squared", background="noise")
INPUTS = ("photo", "rendering", "paired_photo", "paired_rendering")


def one_step(folder, towers, batch_size, pairs=True, **options):
    """Values by name before and after one step on the same 4 examples, and the devices that the towers asked for."""
    config, _ = get_config(words(**NARROW, method_c="none", num_gpu=towers, batch_size=batch_size,
                                 lambda_k=.1, **options))
    trainer = Trainer(config)
    trainer.build_model(Data(find_photos(os.path.join(folder, "real")), find_renderings(os.path.join(folder, "syn")),
                             find_pairs(os.path.join(folder, "paired")) if pairs else None))
    graph, rng = trainer.training, np.random.default_rng(3)
    feed = {getattr(graph.batch, name): rng.integers(0, 256, [4, 16, 16, 3], np.uint8)
            for name in INPUTS[:4 if pairs else 2]}
    feed[graph.batch.label] = np.arange(4)
    trainer.set_values({v.op.name: np.random.default_rng(len(v.op.name)).normal(0, .1, v.shape).astype(np.float32)
                        for v in trainer.weights})
    results = trainer.run_step(0, {"losses": graph.losses, "scores": graph.scores}, feed)
    after = trainer.session.run(trainer.variables)
    devices = {op.device for op in trainer.session.graph.get_operations() if op.name.startswith("tower_")}
    trainer.close()
    return results, after, devices


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, HINGE], ids=["began", "hinge"])
def test_two_towers_take_the_step_of_one_with_the_whole_batch(drawn, options):
    one, after_one, _ = one_step(drawn, towers=1, batch_size=4, **options)
    two, after_two, devices = one_step(drawn, towers=2, batch_size=2, **options)
    assert {"/device:GPU:0", "/device:GPU:1"} <= devices
    assert after_one.keys() == after_two.keys() and one["losses"].get("e_loss", 1) > .01
    for name, loss in one["losses"].items():
        assert loss == pytest.approx(two["losses"][name], rel=1e-5, abs=1e-6), name
    for name, scores in one["scores"].items():
        assert np.allclose(scores, two["scores"][name], rtol=1e-5, atol=1e-6), name
    for name, value in after_one.items():
        # Adam's first step is the sign of the gradient times the rate, so its mean gradient is what to compare.
        if name.endswith("/Adam"):
            scale = max(np.abs(value).max(), 1e-12)
            assert np.abs(value - after_two[name]).max() <= 1e-5 * scale + 1e-9, name
    for k in ("k_t", "k_t2", "k_t3"):
        assert after_one[k] == pytest.approx(after_two[k], rel=1e-5)
    assert after_two["step"] == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("towers", [1, 2])
def test_without_pairs_a_step_is_that_of_a_paired_loss_without_weight(drawn, towers):
    """The losses, and the weights of all but G_inv, whose norms see other batches, are the same."""
    with_pairs, after, _ = one_step(drawn, towers, 4 // towers, lambda_d=0)
    without, after_without, _ = one_step(drawn, towers, 4 // towers, pairs=False, lambda_d=0)
    for name, loss in without["losses"].items():
        wanted = 0 if name in ("sd_loss_forw", "sd_loss_real_forw", "balance3") else with_pairs["losses"][name]
        assert loss == pytest.approx(wanted, rel=1e-5, abs=1e-6), name
    assert after_without["k_t3"] == 0 and after_without["k_t"] == pytest.approx(after["k_t"], rel=1e-5)
    for name, value in after.items():
        if name.endswith("/Adam"):
            scale = max(np.abs(value).max(), 1e-12)
            assert np.abs(value - after_without[name]).max() <= 1e-4 * scale + 1e-9, name
