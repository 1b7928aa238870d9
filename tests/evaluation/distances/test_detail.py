"""evaluation.distances.detail: what blur takes away and noise adds, image by image, beside photos."""
import numpy as np

from evaluation.distances import detail, patches
from people_of import blurred, textured

PHOTOS = textured(200)
USUAL = detail.usual_of(detail.amounts(PHOTOS))


def test_amounts_equal_a_slow_twin():
    image = PHOTOS[0]
    grey = image.astype(np.float32) @ np.array([.299, .587, .114], np.float32)
    levels = [level[0, :, :, 0] for level in patches.pyramid(np.stack([grey] * 3, axis=2)[None])]
    inner = [level[len(level) // 4:len(level) - len(level) // 4, len(level) // 4:len(level) - len(level) // 4]
             for level in levels]
    coarse = np.std(inner[2]) + 1e-3
    expected = [np.log2((np.sqrt(np.mean(level ** 2)) + 1e-3) / coarse) for level in inner[:2]]
    np.testing.assert_allclose(detail.amounts(image[None])[0], expected, rtol=1e-4)


def test_the_range_holds_its_share_of_photos():
    odd = detail.oddness(detail.amounts(PHOTOS), USUAL)
    assert 2 * detail.USUAL - 1 <= (odd <= 1).mean() <= detail.USUAL
    others = detail.oddness(detail.amounts(textured(200, 1)), USUAL)
    assert (others <= 1).mean() > .8


def test_detail_falls_with_blur_and_rises_with_noise():
    shares, amounts = [], []
    for sigma in (0, .7, 1, 2):
        found = detail.amounts(blurred(textured(100, 2), sigma) if sigma else textured(100, 2))
        amounts.append(found.mean(axis=0))
        shares.append((detail.oddness(found, USUAL) <= 1).mean())
    assert (np.diff(amounts, axis=0) < 0).all() and (np.diff(shares) <= 0).all() and shares[0] > .8 and shares[-1] == 0
    noise = np.random.default_rng(0).normal(0, 40, [100, 48, 48, 3])
    noisy = np.clip(textured(100, 2) + noise, 0, 255).astype(np.uint8)
    assert (detail.oddness(detail.amounts(noisy), USUAL) > 1).mean() > .9


def test_brightness_and_contrast_do_not_matter():
    images = textured(20, 3)
    faint = (images // 4 + 90).astype(np.uint8)
    np.testing.assert_allclose(detail.amounts(faint), detail.amounts(images), atol=.25)
    assert np.isfinite(detail.amounts(np.full([1, 48, 48, 3], 128, np.uint8))).all()
