"""The built-in morphable model: a procedural head with bases of shape, expression and texture. NumPy and SciPy only.

It has the blocks and the units of the Basel face model with 3DDFA's expressions (199 shape, 29 expression and 199
texture coefficients), so that everything that samples or stores those works alike; no scan of a person is in it.
Fields say how far one standard deviation moves every vertex, in millimetres; shape and texture then are turned into
orthonormal components with standard deviations, as from a principal component analysis of many sampled heads.
"""
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

COMPONENTS = 199                    # of shape and of texture
SEED = 2019
MICROMETRES = 1000.0
# Standard deviations of 3DDFA's expression coefficients begin like this; ours follow them
EXPRESSION_STD = np.concatenate([[1.5, 1.4, .54, .53, .19], np.geomspace(.17, .05, 24)])
RANDOM_SHAPES = 170
EYE_BACK = 67.0                     # depth of an eyeball's centre


def build():
    """The FaceModel "built-in": 11,601 vertices, 23,084 triangles, always the same; takes a second or two."""
    head, landmarks = build_head()
    random = np.random.default_rng(SEED)
    texture_mean, texture_fields = paint(head, random)
    shape_basis, shape_std = orthonormal(MICROMETRES * np.concatenate([shape_fields(head), wobbles(head, random)]))
    texture_basis, texture_std = orthonormal(texture_fields)
    expressions = expression_fields(head) / EXPRESSION_STD[:, None, None]
    return FaceModel(
        "built-in", head.triangles, as_float(MICROMETRES * head.points), shape_basis, shape_std,
        as_float(MICROMETRES * expressions), as_float(EXPRESSION_STD),
        as_float(texture_mean), texture_basis, texture_std, landmarks)


def as_float(array):
    """A float32 copy."""
    return np.ascontiguousarray(array, np.float32)


def orthonormal(fields):
    """The COMPONENTS principal components [n, V, 3] of `fields` [m, V, 3] with independent unit normal factors.

    Also their standard deviations [n], falling. By the Gram matrix [m, m], which is small (Turk, Pentland 1991,
    "Eigenfaces for Recognition"). The largest factor of every component is positive, whatever the eigensolver.
    """
    flat = fields.reshape(len(fields), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    values, vectors = values[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(COMPONENTS)])
    std = np.sqrt(values)
    basis = (vectors / std).T @ flat
    return as_float(basis.reshape(COMPONENTS, *fields.shape[1:])), as_float(std)


def move(x=0.0, y=0.0, z=0.0):
    """Displacements [V, 3] from those along each axis, [V] or 0."""
    return np.stack(np.broadcast_arrays(x, y, z), -1)


# Identity

def shape_fields(head):
    """Displacements [n, V, 3] in millimetres by which people differ: semantic ones, and a few asymmetries."""
    x, y, z = head.points.T
    side = np.tanh(x / 7)                                           # the sign of x without a crease at the midline
    broad = np.tanh(x / 25)
    wide = np.sqrt(x * x + 25)
    front = smooth_step(z, 0, 50)
    low = smooth_step(-y, -30, 84)
    face = (1 - smooth_step(y, 50, 110)) * front
    ear = smooth_step(np.abs(x), 69, 76) * smooth_step(-np.abs(z + 10), -36, -20)
    ear *= smooth_step(-np.abs(y - 12), -38, -26)
    below = smooth_step(head.row, first_row("jaw") - 1, first_row("jaw") + 5)
    nose = bump(x, y, 0, 0, 17, 24) * front
    tip = bump(x, y, 0, -11, 15, 12) * front
    eye = bump(x, y, EYE_X, EYE_Y, 21, 13) * front
    lips = bump(x, y, 0, MOUTH_Y, 30, 13) * front
    brow = bump(x, y, 33, 49, 27, 9) * front
    forehead = smooth_step(y, 55, 105)
    gonion = bump(x, y, 58, -50, 26, 24) * smooth_step(z, -30, 20)
    cheek = bump(x, y, 45, -22, 20, 22) * front
    chin = bump(x, y, 0, -74, 25, 16) * front
    symmetric = [
        move(*(.018 * head.points.T)),                              # size
        move(.020 * x), move(z=.030 * z), move(y=.026 * (y - 30)),  # width, depth, height
        move(y=-3.8 * low),                                         # length of the lower face
        move(4.4 * broad * gonion), move(y=3 * gonion),              # jaw: width, height of its angle
        move(2.5 * broad * smooth_step(-y, 20, 80) * front),         # a tapering or a square jaw
        move(y=-2.4 * chin), move(z=2.6 * chin), move(.11 * x * chin),
        move(1.8 * broad * bump(x, y, 62, 6, 24, 20), z=1.3 * bump(x, y, 44, 4, 16, 14) * front),     # cheekbones
        move(3.0 * broad * cheek, z=2.8 * cheek),                    # full or hollow cheeks
        move(1.7 * broad * smooth_step(y, 20, 70) * smooth_step(np.abs(x), 30, 70)),                 # temples
        move(y=-2.6 * tip, z=.5 * tip),                             # nose: length, how far it stands out
        move(z=.13 * nose * np.maximum(z - 84, 0)),
        move(.13 * x * bump(x, y, 0, -12, 24, 10) * front),         # its wings
        move(z=2.2 * bump(x, y, 0, 22, 10, 14) * front),            # its bridge
        move(1.1 * side * bump(x, y, 8, 18, 7, 18) * front),
        move(y=2.0 * bump(x, y, 0, -10, 8, 7) * front, z=.6 * tip), move(z=1.3 * bump(x, y, 0, 10, 8, 8) * front),
        move(.12 * x * bump(x, y, 0, -7, 10, 8) * front),
        move(1.7 * side * eye),                                     # eyes: distance
        move(.06 * side * (wide - EYE_X) * eye, .07 * (y - EYE_Y) * eye),           # size
        move(y=.10 * (y - EYE_Y) * bump(x, y, EYE_X, EYE_Y, 18, 10) * front),       # opening
        move(y=.05 * (wide - EYE_X) * eye), move(z=-1.7 * eye), move(y=1.3 * eye),  # slant, depth, height
        move(y=-1.5 * bump(x, y, 36, 40, 16, 4) * front, z=.9 * bump(x, y, 36, 41, 18, 5) * front),    # heavy lids
        move(y=1.6 * brow), move(y=.022 * (wide - 33) * brow), move(z=1.9 * bump(x, y, 22, 47, 22, 7) * front),
        move(y=5.0 * forehead), move(z=-4.5 * smooth_step(y, 50, 110) * front),     # forehead
        move(z=2.2 * bump(x, y, 0, 78, 40, 22) * front),
        move(.08 * x * lips), move(z=1.6 * lips), move(y=2.0 * lips),               # mouth
        move(y=.19 * (y - MOUTH_Y) * bump(x, y, 0, MOUTH_Y, 32, 9) * front, z=.8 * bump(x, y, 0, MOUTH_Y, 22, 9)),
        move(y=1.0 * smooth_step(y, MOUTH_Y, MOUTH_Y + 6) * bump(x, y, 0, -34, 22, 7) * front),
        move(y=1.3 * bump(x, y, 26, MOUTH_Y, 9, 9) * front),                        # corners up or down
        move(z=-1.6 * bump(x, y, 0, -55, 20, 6) * front),
        move(2.8 * side * ear), move(y=.10 * (y - 12) * ear, z=.12 * (z + 6) * ear),
        move(.07 * x * below, z=.07 * (z + 14) * below), move(y=-3.5 * below * bump(x, y, 0, -95, 35, 22)),
        head.hair[:, None] * (head.points - [0, 45, -5]) * .042,                    # hair: volume, height
        move(y=7.0 * head.hair * smooth_step(y, 70, 140)),
        move(z=4.0 * head.hair * smooth_step(y, 80, 120) * front),
        move(.06 * x * face * low, z=1.5 * bump(x, y, 38, -40, 22, 22) * front)]
    uneven = [
        move(.9 * tip), move(.8 * lips), move(1.0 * chin), move(y=.45 * np.tanh(x / 15) * eye),
        move(y=.4 * np.tanh(x / 15) * brow), move(y=.6 * np.tanh(x / 15) * lips), move(z=.8 * np.tanh(x / 30) * face)]
    return np.array(symmetric + uneven)


def wobbles(head, random):
    """Small random displacements [RANDOM_SHAPES, V, 3] in millimetres, ever finer, mostly symmetric."""
    flip = np.array([-1, 1, 1])
    fields = []
    for index in range(RANDOM_SHAPES):
        length = 70 * 4 ** (-index / RANDOM_SHAPES)
        field = np.stack([soft_noise(head.points, length, random) for _ in range(3)], -1)
        mirrored = field[head.mirror] * flip
        fields.append((.9 * (field + mirrored) + .25 * (field - mirrored)) / 2 * .42 * .988 ** index)
    return np.array(fields)


# Expressions

def jaw_share(head):
    """How much of the jaw's rotation every vertex follows [V]: all of the lower lip, none of the upper, teeth stay."""
    _, y, z = head.points.T
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    share = smooth_step(-y, 5, 62)
    mouth = lens(head.across / MOUTH_HALF, .6)
    share = np.where(head.row >= lower, share + mouth * (1 - share), share * (1 - mouth))
    for row, inner in zip(range(upper + 1, lower), (0, 0, 0, 0, .6, 1)):
        at = head.row == row
        share[at] += mouth[at] * (inner - share[at])
    neck = 1 - smooth_step(head.row, first_row("jaw"), first_row("jaw") + 7)
    return share * neck * smooth_step(z, -5, 45)


def expression_fields(head):
    """Displacements [29, V, 3] in millimetres by one standard deviation of each expression."""
    x, y, z = head.points.T
    side = np.tanh(x / 7)
    front = smooth_step(z, 20, 50)
    jaw = jaw_share(head)
    upper, lower = first_row("upper_lip"), first_row("lower_lip")
    inner = ((head.row > upper) & (head.row < lower - 1)) * lens(head.across / MOUTH_HALF, .3)
    outside = front * (1 - head.eyeball)                            # eyeballs stay where they are
    skin = outside * (1 - inner)                                    # and teeth
    corner = bump(x, y, MOUTH_HALF + 1, MOUTH_Y, 12, 12) * skin
    lips = bump(x, y, 0, MOUTH_Y, 26, 12) * skin
    upper_part, lower_part = (head.row <= upper) * skin, (head.row >= lower - 1) * skin
    upper_lip = bump(x, y, 0, -33, 20, 8) * upper_part
    lower_lip = bump(x, y, 0, -48, 20, 10) * lower_part
    cheek = bump(x, y, 40, -4, 16, 15) * skin
    brow, inner_brow, outer_brow = (bump(x, y, cx, 50, sx, 10) * outside for cx, sx in ((32, 27), (15, 12), (46, 15)))
    forehead = smooth_step(y, 55, 70) * (1 - smooth_step(y, 75, 100)) * outside
    t = (np.abs(head.across) - EYE_X) / EYE_HALF
    over = smooth_step(head.row, first_row("brow_end"), first_row("upper_lid")) * (head.row <= first_row("upper_lid"))
    lid_row = first_row("lower_lid")
    under = (head.row >= lid_row) * (1 - smooth_step(head.row, lid_row, first_row("bag") + 2))
    upper_lid, lower_lid = over * lens(t, .6) * front, under * lens(t, .6) * front
    nose_side = bump(x, y, 12, -10, 9, 9) * outside
    gaze = head.eyeball * np.sqrt(lens(t, .3)) * np.maximum(z - EYE_BACK, 0) / 12
    right, left = smooth_step(x, -12, 12), smooth_step(-x, -12, 12)
    lid = move(y=-1.1 * upper_lid + .35 * lower_lid, z=.5 * upper_lid)
    smile = move(2.6 * side * corner, 2.5 * corner + 1.2 * cheek + .6 * lower_lid + .6 * upper_lip,
                 1.0 * cheek - 1.2 * corner)
    raised = move(y=1.9 * brow + .8 * forehead + .25 * upper_lid)
    fields = np.array([
        .038 * move(y=-(z - 10) * jaw, z=(y - 5) * jaw) - move(.2 * side * corner),         # the jaw turns
        smile,
        move(-.075 * x * lips, z=1.7 * bump(x, y, 0, MOUTH_Y, 17, 12) * skin),              # pucker
        raised,
        lid,
        move(-.6 * side * inner_brow, -1.0 * brow - .2 * inner_brow, .3 * inner_brow),      # frown
        move(y=1.2 * inner_brow - .4 * outer_brow),                                         # sorrow
        move(y=1.2 * upper_lip, z=.3 * upper_lip), move(y=-1.3 * lower_lip),                # lips apart
        move(y=-1.5 * corner, z=-.3 * corner),
        move(1.5 * side * corner),
        move(z=1.3 * upper_lip), move(z=1.4 * lower_lip),
        smile * (right - left)[:, None] * .6,
        raised * (right - left)[:, None] * .6,
        lid * (right - left)[:, None] * .5,
        move(1.5 * gaze), move(y=.8 * gaze),
        move(1.4 * jaw), move(z=1.5 * jaw),                                                 # jaw aside, forward
        move(1.3 * lips),
        move(1.3 * side * cheek, z=1.6 * bump(x, y, 38, -34, 15, 16) * skin),               # puffed cheeks
        move(.8 * side * nose_side, .6 * nose_side),                                        # flared nostrils
        move(y=.8 * bump(x, y, 10, 0, 14, 12) * outside + .5 * upper_lip),                  # wrinkled nose
        move(y=.9 * cheek + .5 * lower_lid, z=.8 * cheek),
        move(y=1.0 * bump(x, y, 0, -68, 20, 12) * skin, z=.7 * bump(x, y, 0, -66, 18, 10) * skin),
        move(y=-.12 * (y - MOUTH_Y) * bump(x, y, 0, MOUTH_Y, 24, 9) * skin),                # lips pressed
        move(y=.9 * outer_brow), move(y=-.7 * lower_lid)])
    fields[5:] *= .6                                                                        # next to those that lead
    return fields
