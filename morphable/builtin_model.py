"""The built-in morphable model: a procedural head with bases of shape, expression and texture. NumPy and SciPy only.

The model has the units of the Basel Face Model with 3DDFA's expressions, and as many coefficients: 199 of shape, 29 of
expression and 199 of texture. So everything that samples or stores those works alike. No scan of a person is in it.

People are described by fields. A field is one independent way to differ: how far one standard deviation moves every
vertex, [V, 3] in millimetres, or changes its colour. Fields of shape and of texture are then turned into orthonormal
components with standard deviations. The result is what a principal component analysis of many sampled heads would give.
"""
from typing import NamedTuple

import numpy as np

from morphable.builtin_head import (
    build_head,
    bump,
    EYE_HALF,
    EYE_X,
    EYE_Y,
    first_row,
    lens,
    MOUTH_HALF,
    MOUTH_Y,
    smooth_step,
)
from morphable.builtin_texture import paint, soft_noise
from morphable.face_model import FaceModel

COMPONENTS = 199                    # of shape, and of texture
SEED = 2019                         # of the random fields
MICROMETRES = 1000.0                # in a millimetre
# Standard deviations of expressions: the first five are those of 3DDFA's coefficients, the others go on falling
EXPRESSION_STD = np.concatenate([[1.5, 1.4, .54, .53, .19], np.geomspace(.17, .05, 24)])
RANDOM_SHAPES = 170                 # random fields of shape
EYE_BACK = 67.0                     # depth of an eyeball's centre


def build():
    """Build the FaceModel "built-in", of 11,601 vertices and 23,084 triangles.

    The model is the same on every call. A call takes a second or two.
    """
    head, landmarks = build_head()
    random = np.random.default_rng(SEED)
    texture_mean, texture_fields = paint(head, random)
    shape_fields = np.concatenate([_shape_fields(head), _random_fields(head, random)])
    shape_basis, shape_std = _orthonormal(MICROMETRES * shape_fields)
    texture_basis, texture_std = _orthonormal(texture_fields)
    expressions = _expression_fields(head) / EXPRESSION_STD[:, None, None]
    return FaceModel(
        "built-in", head.triangles, _as_float(MICROMETRES * head.points), shape_basis, shape_std,
        _as_float(MICROMETRES * expressions), _as_float(EXPRESSION_STD),
        _as_float(texture_mean), texture_basis, texture_std, landmarks)


def _as_float(array):
    """Copy `array` to contiguous float32."""
    return np.ascontiguousarray(array, np.float32)


def _orthonormal(fields):
    """Find principal components of sums of `fields` [m, V, 3], weighted by independent N(0, 1).

    Returns COMPONENTS orthonormal components [n, V, 3] and their standard deviations [n], in falling order. The
    solution uses the Gram matrix [m, m], which is small (Turk, Pentland 1991, "Eigenfaces for Recognition").
    Eigensolvers differ in the sign of a component. Here the field with the largest weight in a component has a positive
    weight.
    """
    flat = fields.reshape(len(fields), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    values, vectors = values[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(COMPONENTS)])
    std = np.sqrt(values)
    basis = (vectors / std).T @ flat
    return _as_float(basis.reshape(COMPONENTS, *fields.shape[1:])), _as_float(std)


def _move(x=0.0, y=0.0, z=0.0):
    """Stack displacements along each axis, [V] or 0, to [V, 3]."""
    return np.stack(np.broadcast_arrays(x, y, z), -1)


# Identity

class _Shares(NamedTuple):
    """How much of a movement each vertex of a head follows, [V] in 0..1, by parts of the head; and where it is."""
    x: np.ndarray                   # millimetres, and y and z too
    y: np.ndarray
    z: np.ndarray
    sign: np.ndarray                # of x, without a crease at the midline
    front: np.ndarray
    face: np.ndarray
    low: np.ndarray                 # the lower face, the more the lower
    tip: np.ndarray                 # of the nose
    eye: np.ndarray
    lips: np.ndarray
    brow: np.ndarray
    chin: np.ndarray


def _shares_of(head):
    """Compute the _Shares of a Head."""
    x, y, z = head.points.T
    front = smooth_step(z, 0, 50)
    return _Shares(
        x, y, z, sign=np.tanh(x / 7), front=front, face=(1 - smooth_step(y, 50, 110)) * front,
        low=smooth_step(-y, -30, 84),
        tip=bump(x, y, 0, -11, 15, 12) * front,
        eye=bump(x, y, EYE_X, EYE_Y, 21, 13) * front,
        lips=bump(x, y, 0, MOUTH_Y, 30, 13) * front,
        brow=bump(x, y, 33, 49, 27, 9) * front,
        chin=bump(x, y, 0, -74, 25, 16) * front)


def _shape_fields(head):
    """Describe by what the shapes of people differ: fields [n, V, 3] in millimetres, each with a meaning.

    The last few fields are asymmetric.
    """
    shares = _shares_of(head)
    return np.array([*_outline_fields(head, shares), *_nose_fields(shares), *_eye_fields(shares),
                     *_forehead_fields(shares), *_mouth_fields(shares), *_rim_fields(head, shares),
                     *_asymmetric_fields(shares)])


def _outline_fields(head, shares):
    """List fields of the size of the head, of jaw, chin, cheeks and temples."""
    x, y, z, front, low, chin = shares.x, shares.y, shares.z, shares.front, shares.low, shares.chin
    soft_sign = np.tanh(x / 25)
    gonion = bump(x, y, 58, -50, 26, 24) * smooth_step(z, -30, 20)
    cheek = bump(x, y, 45, -22, 20, 22) * front
    return [
        # size; width, depth, height; length of the lower face
        _move(*(.018 * head.points.T)),
        _move(.020 * x), _move(z=.030 * z), _move(y=.026 * (y - 30)),
        _move(y=-3.8 * low),
        # jaw: width and height of its angles, tapering or square
        _move(4.4 * soft_sign * gonion), _move(y=3 * gonion),
        _move(2.5 * soft_sign * smooth_step(-y, 20, 80) * front),
        # chin: length, how far it stands out, width
        _move(y=-2.4 * chin), _move(z=2.6 * chin), _move(.11 * x * chin),
        # cheekbones, full or hollow cheeks, temples
        _move(1.8 * soft_sign * bump(x, y, 62, 6, 24, 20), z=1.3 * bump(x, y, 44, 4, 16, 14) * front),
        _move(3.0 * soft_sign * cheek, z=2.8 * cheek),
        _move(1.7 * soft_sign * smooth_step(y, 20, 70) * smooth_step(np.abs(x), 30, 70))]


def _nose_fields(shares):
    """List fields of the nose."""
    x, y, z, sign, front, tip = shares.x, shares.y, shares.z, shares.sign, shares.front, shares.tip
    nose = bump(x, y, 0, 0, 17, 24) * front
    return [
        # length, how far it stands out
        _move(y=-2.6 * tip, z=.5 * tip),
        _move(z=.13 * nose * np.maximum(z - 84, 0)),
        # width of the wings, height and width of the bridge, an upturned tip, a hump, width of the tip
        _move(.13 * x * bump(x, y, 0, -12, 24, 10) * front),
        _move(z=2.2 * bump(x, y, 0, 22, 10, 14) * front),
        _move(1.1 * sign * bump(x, y, 8, 18, 7, 18) * front),
        _move(y=2.0 * bump(x, y, 0, -10, 8, 7) * front, z=.6 * tip), _move(z=1.3 * bump(x, y, 0, 10, 8, 8) * front),
        _move(.12 * x * bump(x, y, 0, -7, 10, 8) * front)]


def _eye_fields(shares):
    """List fields of eyes and brows."""
    x, y, sign, front, eye, brow = shares.x, shares.y, shares.sign, shares.front, shares.eye, shares.brow
    distance = np.sqrt(x * x + 25)                                  # |x| without a crease
    return [
        # distance, size, opening; slant, depth, height; heavy lids
        _move(1.7 * sign * eye),
        _move(.06 * sign * (distance - EYE_X) * eye, .07 * (y - EYE_Y) * eye),
        _move(y=.10 * (y - EYE_Y) * bump(x, y, EYE_X, EYE_Y, 18, 10) * front),
        _move(y=.05 * (distance - EYE_X) * eye), _move(z=-1.7 * eye), _move(y=1.3 * eye),
        _move(y=-1.5 * bump(x, y, 36, 40, 16, 4) * front, z=.9 * bump(x, y, 36, 41, 18, 5) * front),
        # brows: height, slant, ridge
        _move(y=1.6 * brow), _move(y=.022 * (distance - 33) * brow), _move(z=1.9 * bump(x, y, 22, 47, 22, 7) * front)]


def _forehead_fields(shares):
    """List fields of the forehead: height, slope, bulge."""
    x, y, front = shares.x, shares.y, shares.front
    return [_move(y=5.0 * smooth_step(y, 55, 105)), _move(z=-4.5 * smooth_step(y, 50, 110) * front),
            _move(z=2.2 * bump(x, y, 0, 78, 40, 22) * front)]


def _mouth_fields(shares):
    """List fields of the mouth, and of the fold between it and the chin."""
    x, y, front, lips = shares.x, shares.y, shares.front, shares.lips
    return [
        # width, how far it stands out, height; full lips, a short upper lip, corners up; the fold
        _move(.08 * x * lips), _move(z=1.6 * lips), _move(y=2.0 * lips),
        _move(y=.19 * (y - MOUTH_Y) * bump(x, y, 0, MOUTH_Y, 32, 9) * front, z=.8 * bump(x, y, 0, MOUTH_Y, 22, 9)),
        _move(y=1.0 * smooth_step(y, MOUTH_Y, MOUTH_Y + 6) * bump(x, y, 0, -34, 22, 7) * front),
        _move(y=1.3 * bump(x, y, 26, MOUTH_Y, 9, 9) * front),
        _move(z=-1.6 * bump(x, y, 0, -55, 20, 6) * front)]


def _rim_fields(head, shares):
    """List fields of what is around the face: ears, neck and hair; and one of a broad lower face."""
    x, y, z, sign, front = shares.x, shares.y, shares.z, shares.sign, shares.front
    ear = smooth_step(np.abs(x), 69, 76) * smooth_step(-np.abs(z + 10), -36, -20)
    ear *= smooth_step(-np.abs(y - 12), -38, -26)
    below = smooth_step(head.row, first_row("jaw") - 1, first_row("jaw") + 5)
    return [
        # ears: standing off, size; neck: thickness, a double chin
        _move(2.8 * sign * ear), _move(y=.10 * (y - 12) * ear, z=.12 * (z + 6) * ear),
        _move(.07 * x * below, z=.07 * (z + 14) * below), _move(y=-3.5 * below * bump(x, y, 0, -95, 35, 22)),
        # hair: volume, height, front
        head.hair[:, None] * (head.points - [0, 45, -5]) * .042,
        _move(y=7.0 * head.hair * smooth_step(y, 70, 140)),
        _move(z=4.0 * head.hair * smooth_step(y, 80, 120) * front),
        # a broad lower face
        _move(.06 * x * shares.face * shares.low, z=1.5 * bump(x, y, 38, -40, 22, 22) * front)]


def _asymmetric_fields(shares):
    """List fields in which the halves of a face differ."""
    x = shares.x
    return [
        _move(.9 * shares.tip), _move(.8 * shares.lips), _move(1.0 * shares.chin),
        _move(y=.45 * np.tanh(x / 15) * shares.eye), _move(y=.4 * np.tanh(x / 15) * shares.brow),
        _move(y=.6 * np.tanh(x / 15) * shares.lips), _move(z=.8 * np.tanh(x / 30) * shares.face)]


def _random_fields(head, random):
    """Make random fields of shape, [RANDOM_SHAPES, V, 3] in millimetres.

    The fields are small, each a little smaller and finer than the one before, and mostly symmetric.
    """
    flip = np.array([-1, 1, 1])
    fields = []
    for index in range(RANDOM_SHAPES):
        length = 70 * 4 ** (-index / RANDOM_SHAPES)
        field = np.stack([soft_noise(head.points, length, random) for _ in range(3)], -1)
        mirrored = field[head.mirror] * flip
        fields.append((.9 * (field + mirrored) + .25 * (field - mirrored)) / 2 * .42 * .988 ** index)
    return np.array(fields)


# Expressions

def _jaw_share(head):
    """Compute how much of the jaw's rotation every vertex follows -> [V] in 0..1.

    The lower lip follows wholly; the upper lip and the teeth stay.
    """
    _, y, z = head.points.T
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    share = smooth_step(-y, 5, 62)
    mouth = lens(head.nominal_x / MOUTH_HALF, .6)
    share = np.where(head.row >= lower, share + mouth * (1 - share), share * (1 - mouth))
    for row, inner in zip(range(upper + 1, lower), (0, 0, 0, 0, .6, 1)):
        there = head.row == row
        share[there] += mouth[there] * (inner - share[there])
    neck = 1 - smooth_step(head.row, first_row("jaw"), first_row("jaw") + 7)
    return share * neck * smooth_step(z, -5, 45)


class _Muscles(NamedTuple):
    """How much of a movement each vertex of a head follows in an expression, [V] in 0..1; and where it is."""
    x: np.ndarray                   # millimetres, and y and z too
    y: np.ndarray
    z: np.ndarray
    sign: np.ndarray                # of x, without a crease at the midline
    outside: np.ndarray             # the front without the eyeballs, which stay where they are
    skin: np.ndarray                # that without the teeth, which stay too
    jaw: np.ndarray
    corner: np.ndarray              # of the mouth
    lips: np.ndarray
    upper_lip: np.ndarray
    lower_lip: np.ndarray
    cheek: np.ndarray
    upper_lid: np.ndarray
    lower_lid: np.ndarray


def _muscles_of(head):
    """Compute the _Muscles of a Head."""
    x, y, z = head.points.T
    front = smooth_step(z, 20, 50)
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    inner = ((head.row > upper) & (head.row < lower - 1)) * lens(head.nominal_x / MOUTH_HALF, .3)
    outside = front * (1 - head.eyeball)
    skin = outside * (1 - inner)
    above_mouth, below_mouth = (head.row <= upper) * skin, (head.row >= lower - 1) * skin
    eye_x = (np.abs(head.nominal_x) - EYE_X) / EYE_HALF
    over = smooth_step(head.row, first_row("brow_end"), first_row("upper_lid")) * (head.row <= first_row("upper_lid"))
    lid_row = first_row("lower_lid")
    under = (head.row >= lid_row) * (1 - smooth_step(head.row, lid_row, first_row("bag") + 2))
    return _Muscles(
        x, y, z, sign=np.tanh(x / 7), outside=outside, skin=skin, jaw=_jaw_share(head),
        corner=bump(x, y, MOUTH_HALF + 1, MOUTH_Y, 12, 12) * skin,
        lips=bump(x, y, 0, MOUTH_Y, 26, 12) * skin,
        upper_lip=bump(x, y, 0, -33, 20, 8) * above_mouth,
        lower_lip=bump(x, y, 0, -48, 20, 10) * below_mouth,
        cheek=bump(x, y, 40, -4, 16, 15) * skin,
        upper_lid=over * lens(eye_x, .6) * front, lower_lid=under * lens(eye_x, .6) * front)


def _expression_fields(head):
    """Describe expressions: displacements [29, V, 3] in millimetres by one standard deviation of each."""
    x, y, z, sign, outside, skin, jaw, corner, lips, upper_lip, lower_lip, cheek, upper_lid, lower_lid = \
        _muscles_of(head)
    brow, inner_brow, outer_brow = (bump(x, y, cx, 50, sx, 10) * outside for cx, sx in ((32, 27), (15, 12), (46, 15)))
    forehead = smooth_step(y, 55, 70) * (1 - smooth_step(y, 75, 100)) * outside
    eye_x = (np.abs(head.nominal_x) - EYE_X) / EYE_HALF
    nose_side = bump(x, y, 12, -10, 9, 9) * outside
    gaze = head.eyeball * np.sqrt(lens(eye_x, .3)) * np.maximum(z - EYE_BACK, 0) / 12
    right, left = smooth_step(x, -12, 12), smooth_step(-x, -12, 12)
    blink = _move(y=-1.1 * upper_lid + .35 * lower_lid, z=.5 * upper_lid)
    smile = _move(2.6 * sign * corner, 2.5 * corner + 1.2 * cheek + .6 * lower_lid + .6 * upper_lip,
                  1.0 * cheek - 1.2 * corner)
    raised_brows = _move(y=1.9 * brow + .8 * forehead + .25 * upper_lid)
    fields = np.array([
        .038 * _move(y=-(z - 10) * jaw, z=(y - 5) * jaw) - _move(.2 * sign * corner),       # the jaw turns open
        smile,
        _move(-.075 * x * lips, z=1.7 * bump(x, y, 0, MOUTH_Y, 17, 12) * skin),             # pucker
        raised_brows,
        blink,
        _move(-.6 * sign * inner_brow, -1.0 * brow - .2 * inner_brow, .3 * inner_brow),     # frown
        _move(y=1.2 * inner_brow - .4 * outer_brow),                                        # sorrow
        _move(y=1.2 * upper_lip, z=.3 * upper_lip), _move(y=-1.3 * lower_lip),              # lips apart
        _move(y=-1.5 * corner, z=-.3 * corner),                                             # corners of the mouth down
        _move(1.5 * sign * corner),                                                         # corners of the mouth apart
        _move(z=1.3 * upper_lip), _move(z=1.4 * lower_lip),                                 # lips forward
        smile * (right - left)[:, None] * .6,                                               # on one half of the face
        raised_brows * (right - left)[:, None] * .6,
        blink * (right - left)[:, None] * .5,
        _move(1.5 * gaze), _move(y=.8 * gaze),                                              # gaze aside, up
        _move(1.4 * jaw), _move(z=1.5 * jaw),                                               # jaw aside, forward
        _move(1.3 * lips),                                                                  # mouth aside
        _move(1.3 * sign * cheek, z=1.6 * bump(x, y, 38, -34, 15, 16) * skin),              # puffed cheeks
        _move(.8 * sign * nose_side, .6 * nose_side),                                       # flared nostrils
        _move(y=.8 * bump(x, y, 10, 0, 14, 12) * outside + .5 * upper_lip),                 # wrinkled nose
        _move(y=.9 * cheek + .5 * lower_lid, z=.8 * cheek),                                 # squint
        _move(y=1.0 * bump(x, y, 0, -68, 20, 12) * skin, z=.7 * bump(x, y, 0, -66, 18, 10) * skin),     # chin up
        _move(y=-.12 * (y - MOUTH_Y) * bump(x, y, 0, MOUTH_Y, 24, 9) * skin),               # lips pressed
        _move(y=.9 * outer_brow), _move(y=-.7 * lower_lid)])                                # outer brows, lower lids
    fields[5:] *= .6                            # weaker, next to the five that lead
    return fields
