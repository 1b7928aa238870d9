"""MakeHuman's people as a FaceModel that can be fitted to photos, and people who look like what was fitted.

The people are drawn as `gen_syn_latent.py people` draws them. Principal components of their shapes and of the colours
of their vertices make the FaceModel. A shape's component is a combination of targets, so that coefficients of shape are
weights of targets too. Traits, such as the colour of the hair, are estimated from coefficients linearly.
"""
import glob
import logging
import os
import sys
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

import utils
from morphable import face_model
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import model as makehuman_model
from morphable.makehuman import people as makehuman_people
from morphable.makehuman import texture as makehuman_texture
from morphable.makehuman.mesh import ATLAS_HEIGHT, ATLAS_WIDTH
from morphable.makehuman.people import BEARDS, CUTS, Person, TRAITS

SEED = 2026                         # of the people whose statistics are taken
SHAPES, TEXTURES = 480, 200         # people whose shapes, and whose colours, are taken
SHAPE_MODES, TEXTURE_MODES = 80, 60
WISHES = makehuman_people.Wishes(age=(12.0, 80.0))
RIDGE = .1                          # of the linear estimate of traits
LIMITS = dict.fromkeys(("melanin", "freckles", "bags", "spots", "liner", "shadow", "stubble", "eye_melanin",
                        "eye_green", "hair_melanin", "grey", "curl", "beard_length", "phase"), (0, 1)) | {
                            "wrinkles": (0, 1.25), "gloss": (.3, 1.8), "hair_red": (0, 2), "ruddy": (-1.5, 1.5)}
KNOWN = "age", "female", "red", "green", "blue"     # what is estimated besides traits; the last three are the skin's
COMBED = dict(line=0, temples=0, crown=-1, side=0, fringe=0, length=0, volume=0, phase=.5)     # what no photo tells
WOMAN = .6                          # share from which somebody gets longer hair
LIKE_SKIN, GREY_PRIOR = 15, 12      # levels: hair so close to skin is none; grey hair has to be so much closer
KEPT_CACHES = 2
ARRAYS = "rest", "shapes", "colours", "textures", "mean_weights", "weights", "mean_traits", "traits"


class PeopleModel(NamedTuple):
    """The statistics of people of MakeHuman's head."""
    head: makehuman_model.Head
    model: face_model.FaceModel
    mean_weights: np.ndarray        # [n] of targets
    weights: np.ndarray             # [SHAPE_MODES, n]: weights of targets per standard deviation of a component
    mean_traits: np.ndarray         # [t] of traits, and of KNOWN
    traits: np.ndarray              # [TEXTURE_MODES + SHAPE_MODES, t] per standard deviation


def build(head):
    """Take the statistics of people of a makehuman_model.Head -> {name of ARRAYS: array}. This takes half a minute."""
    names = list(head.catalogue)
    people = [makehuman_people.draw_person(names, WISHES, SEED, number) for number in range(1, SHAPES + 1)]
    weights = np.array([person.weights for person in people])
    mean_weights = weights.mean(axis=0)
    centred = (weights - mean_weights).astype(np.float32)
    flat = head.fields.reshape(len(head.fields), -1)
    shapes = centred @ flat
    values, vectors = np.linalg.eigh(shapes @ shapes.T / (SHAPES - 1))
    chosen = np.argsort(values)[::-1][:SHAPE_MODES]
    scores = vectors[:, chosen] * np.sqrt(SHAPES - 1)              # [SHAPES, modes], of unit variance
    modes = scores.T @ centred / (SHAPES - 1)                      # [modes, n] weights per deviation
    fine = np.stack([head.mesh.refine @ (mode @ flat).reshape(-1, 3) for mode in modes]) * makehuman_model.MICROMETRES
    rest = head.mesh.refine @ (head.base + (mean_weights @ flat).reshape(-1, 3)) + head.mesh.shift
    colours = np.stack([vertex_colours(head, person) for person in people[:TEXTURES]])
    mean_colours = colours.mean(axis=0)
    colours = (colours - mean_colours).reshape(TEXTURES, -1)
    values, vectors = np.linalg.eigh(colours @ colours.T / (TEXTURES - 1))
    chosen = np.argsort(values)[::-1][:TEXTURE_MODES]
    looks = vectors[:, chosen] * np.sqrt(TEXTURES - 1)
    texture = (looks.T @ colours / (TEXTURES - 1)).reshape(TEXTURE_MODES, -1, 3)
    traits = np.array([[*person.traits, person.age, person.female, *makehuman_texture.skin_tone(person)]
                       for person in people[:TEXTURES]])
    both = np.concatenate([looks, scores[:TEXTURES]], axis=1)
    mean_traits = traits.mean(axis=0)
    slopes = np.linalg.solve(both.T @ both / TEXTURES + RIDGE * np.eye(both.shape[1]),
                             both.T @ (traits - mean_traits) / TEXTURES)
    slopes[TEXTURE_MODES:, -3:] = 0                                # the shape is not to say which colour skin has
    slopes[:TEXTURE_MODES, -3:] = looks.T @ (traits - mean_traits)[:, -3:] / (TEXTURES - 1)
    arrays = dict(rest=rest * makehuman_model.MICROMETRES, shapes=fine, colours=mean_colours, textures=texture)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return dict(arrays, mean_weights=mean_weights, weights=modes, mean_traits=mean_traits, traits=slopes)


def vertex_colours(head, person):
    """Compute the colours of the head's vertices without light -> float32 [V, 3], rgb in 0..255."""
    atlas = makehuman_model.make_atlas(head, person)
    place = np.zeros([len(head.rest), 2], np.float32)
    place[head.mesh.triangles.ravel()] = head.mesh.texels.reshape(-1, 2)
    column, row = np.clip(place.astype(int), 0, [[ATLAS_WIDTH - 1, ATLAS_HEIGHT - 1]]).T
    atlas.paint(row * ATLAS_WIDTH + column)
    return atlas.image[:3, row, column].T * head.shade


def resemble(people, shape, texture, hair=None):
    """Make the Person who looks like a shape and a texture, both in standard deviations -> makehuman_people.Person.

    `hair` is the rgb [3] of the hair without light, if that was seen. The cut of the hair is a guess.
    """
    both = np.zeros(TEXTURE_MODES + SHAPE_MODES)
    both[:len(texture)] = texture
    both[TEXTURE_MODES:TEXTURE_MODES + len(shape)] = shape
    values = dict(zip((*TRAITS, *KNOWN), people.mean_traits + both @ people.traits))
    values.update(COMBED)
    values["stubble"] *= values["female"] < .5
    traits = np.array([np.clip(values[name], *LIMITS.get(name, (-2.5, 2.5))) for name in TRAITS])
    age, female = np.clip(values["age"], *WISHES.age), np.clip(values["female"], 0, 1)
    weights = people.mean_weights + both[TEXTURE_MODES:] @ people.weights
    person = Person(float(age), float(female), np.full(3, 1 / 3), weights, traits,
                    CUTS.index("bob" if female > WOMAN else "parted"), BEARDS.index("none"))
    person = _tan(person, np.array([values[name] for name in KNOWN[2:]]))
    return person if hair is None else _dye(person, hair)


def _tan(person, tone):
    """Give a Person the melanin with which the skin comes closest to rgb `tone` [3]: skin is not linear in it."""
    best, place = None, TRAITS.index("melanin")
    for melanin in np.linspace(0, 1, 41):
        traits = person.traits.copy()
        traits[place] = melanin
        tanned = person._replace(traits=traits)
        away = np.abs(makehuman_texture.skin_tone(tanned) - tone).sum()
        if best is None or away < best[0]:
            best = away, tanned
    return best[1]


def _dye(person, hair):
    """Give a Person the hair colour that comes closest to rgb `hair` [3]; none at all where it is skin."""
    if np.abs(hair - makehuman_texture.skin_tone(person)).max() < LIKE_SKIN:
        return person._replace(cut=CUTS.index("bald"))
    best = None
    for melanin in np.linspace(0, 1, 11):
        for grey in np.linspace(0, 1, 5):
            traits = person.traits.copy()
            traits[TRAITS.index("hair_melanin")], traits[TRAITS.index("grey")] = melanin, grey
            dyed = person._replace(traits=traits)
            away = np.abs(makehuman_texture.hair_colour(dyed) - hair).mean() + GREY_PRIOR * grey
            if best is None or away < best[0]:
                best = away, dyed
    return best[1]


# The cache

def load(head):
    """Load the PeopleModel of a makehuman_model.Head from the cache beside the environment, or build it there."""
    key = zlib.crc32(np.ascontiguousarray(head.rest), head.checksum)
    for name in ("hair", "mesh", "people", "texture", "expressions"):
        with open(os.path.join(os.path.dirname(makehuman_model.__file__), f"{name}.py"), "rb") as file:
            key = zlib.crc32(file.read(), key)
    with open(os.path.abspath(__file__), "rb") as file:
        key = zlib.crc32(file.read(), key)
    path = os.path.join(sys.prefix, "var", "facegan", f"people-{key:08x}.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            return _from_arrays(head, {name: file[name] for name in ARRAYS})
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s: can't be read (%s), the statistics are taken anew", path, utils.one_line(str(error)))
    logging.info("taking the statistics of %d people of %s, once", SHAPES, makehuman_model.NAME)
    arrays = build(head)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with utils.atomic_write(path) as file:
            np.savez(file, **arrays)
        others = sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(path)), "people-*.npz")),
                        key=os.path.getmtime)
        for old in others[:-KEPT_CACHES]:
            os.remove(old)
    except OSError as error:
        logging.info("%s: can't be kept (%s), the statistics are taken again next time", path, error.strerror)
    return _from_arrays(head, arrays)


def _from_arrays(head, arrays):
    """Make a PeopleModel of what `build` returned."""
    none = np.ones(SHAPE_MODES, np.float32)
    plain = makehuman_model.to_face_model(head)
    deviations = np.where(np.char.startswith(list(makehuman_expressions.MODES), "gaze"), 0, plain.expression_std)
    model = plain._replace(
        shape_mean=arrays["rest"], shape_basis=arrays["shapes"], shape_std=none,
        expression_std=deviations.astype(np.float32), texture_mean=arrays["colours"], texture_basis=arrays["textures"],
        texture_std=np.ones(TEXTURE_MODES, np.float32))
    return PeopleModel(head, model, *(arrays[name] for name in ("mean_weights", "weights", "mean_traits", "traits")))
