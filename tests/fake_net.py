"""A stand-in for the network that finds landmarks: it knows which faces are in the pictures that tests render."""
import functools
import zlib

import numpy as np
from PIL import Image

from datasets.images import save_image
from morphable import face_model, renderer
from morphable.fitting import correspondences, criteria, geometry, landmark_net, photo_fits, template
from morphable.fitting.correspondences import BROWS, Correspondences, LIDS, LIPS, OVAL
from tool import builtin_face_model

EVEN = np.array([.8, .75, .7, .3, .35, .4, .4, .3, 0, 20])          # light
SIDE = 160                          # of a picture


@functools.cache
def matched():
    """Say which vertices of the built-in model the points are, roughly as the network has them -> Correspondences."""
    model = builtin_face_model()
    mean, marks = model.shape_mean, model.shape_mean[model.landmarks]
    front = np.flatnonzero(np.isin(np.arange(len(mean)), model.triangles) & (mean[:, 2] > marks[36:48, 2].min() - 3e4))
    nose = marks[30]
    places = nose + np.random.default_rng(5).uniform(-1, 1, [landmark_net.POINTS, 3]) * [45e3, 60e3, 0]
    around = 2 * np.pi * np.arange(len(OVAL)) / len(OVAL)
    places[OVAL] = nose + np.stack([62e3 * np.sin(around), 78e3 * np.cos(around), 0 * around], 1)
    for points, first, last in ((LIDS[:16], 36, 42), (LIDS[16:], 42, 48), (LIPS, 48, 68), (BROWS, 17, 27)):
        places[points] = marks[first:last][np.arange(len(points)) * (last - first) // len(points)]
    places[[*criteria.MIRROR[0]]] = marks[[36, 39, 48, 17, 30, 8, 54, 45, 42, 26]]
    places[1] = nose
    found = front[[np.argmin(((mean[front] - place) ** 2)[:, :2].sum(axis=1)) for place in places]]
    weights = np.ones(len(found))
    weights[np.r_[LIDS, LIPS]] = correspondences.FINE
    return Correspondences(found.astype(np.int32), np.zeros([len(found), 3], np.float32), weights)


@functools.cache
def builtin_template():
    """Make the template.Template of the built-in model."""
    model = builtin_face_model()
    return template.Template(model, renderer.compute_incidence(model.triangles, len(model.shape_mean)))


class Sitter:
    """A person of the built-in model whose shape, expression and pose are known."""

    def __init__(self, seed, yaw=.2, scale=4.5e-4, light=EVEN):
        random, model = np.random.default_rng(seed), builtin_face_model()
        self.shape = np.r_[random.standard_normal(20), np.zeros(len(model.shape_std) - 20)]
        self.expression = random.standard_normal(len(model.expression_std)) * .7
        self.texture = np.r_[random.standard_normal(12), np.zeros(len(model.texture_std) - 12)]
        self.pose = np.array([random.normal(0, .1), yaw, random.normal(0, .1), SIDE / 2, SIDE / 2, 0, scale])
        self.light = light

    def vertices(self):
        """Compute the vertices [V, 3] in micrometres."""
        model = builtin_face_model()
        return face_model.compute_vertices(model, self.shape * model.shape_std, self.expression * model.expression_std)

    def points(self, noise=.1):
        """Project what the network would find, with an error in pixels -> [468, 2]."""
        points = renderer.project(self.vertices()[matched().vertices], self.pose, SIDE)[:, :2]
        return points + np.random.default_rng(1).normal(0, noise, points.shape)

    def picture(self):
        """Render the person before a plain wall -> uint8 [SIDE, SIDE, 3]."""
        model = builtin_face_model()
        colours = np.clip(face_model.compute_texture(model, self.texture * model.texture_std), 0, 255)
        mesh = renderer.Mesh(self.vertices(), colours, model.triangles, builtin_template().incidence)
        image, covered = renderer.render(mesh, renderer.Shot(self.light, self.pose, photo_fits.COLOR),
                                         renderer.Frame(SIDE, SIDE, supersample=2))
        image[~covered] = 90, 110, 100
        grain = np.random.default_rng(2).normal(0, 5, image.shape)
        return np.clip(image + grain, 0, 255).astype(np.uint8)


class FakeNet:
    """Finds what it was told: {checksum of a picture's pixels: list of FoundFace}."""

    def __init__(self):
        self.known = {}

    def teach(self, image, *faces, score=.95, flag=1.0, shift=.1):
        """Tell which points, [468, 2] each, an image uint8 [H, W, 3] has, and those of its mirror image."""
        here, there = criteria.MIRROR
        for picture, mirrored in ((image, False), (image[:, ::-1], True)):
            found = []
            for points in faces:
                seen = points.copy()
                if mirrored:
                    seen = [image.shape[1] - 1, 0] + points * [-1, 1]
                    seen[there] = [image.shape[1] - 1, 0] + points[here] * [-1, 1]
                found.append(landmark_net.FoundFace(seen, score, flag, shift))
            self.known[zlib.crc32(np.ascontiguousarray(picture))] = found

    def find(self, picture, small=False):
        """Find the faces that were taught of a Pillow image -> list of FoundFace."""
        return self.known.get(zlib.crc32(np.asarray(picture).tobytes()), [])

    def find_around(self, picture, points):
        """Find the same; all faces are looked at again."""
        return self.find(picture)

    def save(self, path, *sitters, image=None, **found):
        """Save a photo of one Sitter, of `image` if given, and learn the points of all `sitters`."""
        image = sitters[0].picture() if image is None else image
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(image, str(path))
        self.teach(np.asarray(Image.open(path).convert("RGB")), *(sitter.points() for sitter in sitters), **found)


def replace_net(patch, net):
    """Let commands in this process, and those it forks, ask a FakeNet. `patch` is pytest's monkeypatch."""
    patch.setattr(photo_fits, "_net", lambda: net)
    patch.setattr(correspondences, "find", lambda *model_and_net: matched())
    patch.setattr(landmark_net, "check", lambda: None)
    patch.setattr(landmark_net, "checksum", lambda: 1)


@functools.cache
def point_model():
    """Make the geometry.PointModel of the built-in model."""
    return geometry.point_model(builtin_face_model(), matched())
