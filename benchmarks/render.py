"""Time rendering, stage by stage, on one core: python benchmarks/render.py [SIZE]

The models are the built-in head, and two ellipsoids as large as a head with 29 expressions. One ellipsoid has as many
vertices as the Basel Face Model (53,000), the other a fifth of that. A head fills three quarters of an image of SIZE
(200) pixels. Shape and texture are computed once for an identity, which is not timed. What an image costs is one row of
a product with the expression basis, of 50 images together, and what follows. Times are CPU times of the process, the
least of seven runs.
"""
import io
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from PIL import Image

from morphable import builtin_model, renderer

REPEATS = 7
IMAGES = 50                                         # of one identity
ILLUMINATION = np.array([.6, .6, .6, .6, .6, .6, .3, -.5, 0, 20])
COLOR = np.array([1, 1, 1, 0, 0, 0, 1.0])


def ellipsoid(rows, columns):
    """Make a closed grid -> (vertices [rows * columns, 3] in micrometres, triangles [T, 3])."""
    height = np.linspace(-1, 1, rows)[:, None] * .999
    around = np.arange(columns) * 2 * np.pi / columns
    radius = np.sqrt(1 - height ** 2)
    shape = np.stack([75e3 * radius * np.sin(around), np.broadcast_to(110e3 * height, [rows, columns]),
                      95e3 * radius * np.cos(around)], -1)
    index = np.arange(rows * columns).reshape(rows, columns)
    low, high = index[:-1], index[1:]
    quads = [corner.ravel() for corner in (low, np.roll(low, -1, 1), np.roll(high, -1, 1), high)]
    triangles = np.concatenate([np.stack([quads[i] for i in corners], 1) for corners in ((0, 1, 2), (0, 2, 3))])
    return shape.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32)


def cpu_milliseconds(run):
    """Call `run()` REPEATS times -> (least CPU milliseconds of a call, what `run` returned)."""
    least = np.inf
    for _ in range(REPEATS):
        start = time.process_time()
        result = run()
        least = min(least, time.process_time() - start)
    return 1e3 * least, result


def encode(image):
    """Encode `image` uint8 [H, W, 3] as JPEG of quality 100 -> bytes."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def time_stages(shape, triangles, expressions, size):
    """Time each stage of rendering -> {stage: milliseconds for an image}.

    The head has the vertices `shape` [V, 3], the `triangles` [T, 3] and the expression basis `expressions` [29, V, 3].
    """
    random = np.random.default_rng(1)
    texture = random.uniform(60, 220, shape.shape).astype(np.float32)
    basis = expressions.reshape(len(expressions), -1)
    coefficients = random.standard_normal([IMAGES, len(basis)], np.float32) / 10
    pose = np.array([.1, .3, .05, size / 2, size / 2, 0, .0013 * size / 450 * 1.2])
    took = {}
    milliseconds, moved = cpu_milliseconds(lambda: coefficients @ basis + shape.ravel())
    took["shape product, of 50"] = milliseconds / IMAGES
    vertices = moved[0].reshape(-1, 3)
    incidence = renderer.compute_incidence(triangles, len(vertices))
    took["normals"], normals = cpu_milliseconds(lambda: renderer.compute_normals(vertices, triangles, incidence))
    took["light, tone"], colours = cpu_milliseconds(
        lambda: renderer.apply_color(renderer.apply_light(texture, normals, ILLUMINATION), COLOR))
    took["project"], points = cpu_milliseconds(lambda: renderer.project(vertices, pose, size))
    took["rasterize"], (image, _) = cpu_milliseconds(
        lambda: renderer.rasterize(points, colours, triangles, size, size))
    took["JPEG"], _ = cpu_milliseconds(lambda: encode(np.rint(image).astype(np.uint8)))
    return took


def models():
    """Yield the models to time: name, vertices [V, 3], triangles [T, 3], expression basis [29, V, 3]."""
    random = np.random.default_rng(0)
    for name, grid in (("ellipsoid, 53,000 vertices", (230, 231)), ("ellipsoid, 10,000 vertices", (100, 100))):
        shape, triangles = ellipsoid(*grid)
        yield name, shape, triangles, 100 * random.standard_normal([29, *shape.shape], np.float32)
    model = builtin_model.build()
    yield f"built-in head, {len(model.shape_mean)} vertices", model.shape_mean, model.triangles, model.expression_basis


def main():
    """Print a table of stages for every model."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name, shape, triangles, expressions in models():
        took = time_stages(shape, triangles, expressions, size)
        print(f"{name}, {len(triangles)} triangles, {size}x{size}")
        for stage, milliseconds in took.items():
            print(f"  {stage:<22}{milliseconds:8.2f} ms")
        total = sum(took.values())
        print(f"  {'total':<22}{total:8.2f} ms, {1e3 / total:.0f} images/s a core")


if __name__ == "__main__":
    main()
