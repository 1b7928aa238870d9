"""Strips for figures and tests: images of a person in which one thing changes evenly and nothing else does."""
import numpy as np

from morphable import latents
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import people as makehuman_people
from morphable.scene import sample_shot, sample_subject, show_person
from utils import UserError

LIGHT = {"light": 7, "light_height": 6}             # places in Illum_Para: from the side, from above; in radians
OF_PEOPLE = "age", "identity"                       # what only people of MakeHuman's head have, like expressions
LIMITS = {"age": (makehuman_people.CHILD, makehuman_people.OLDEST), "identity": (0.0, 1.0)}
WIDEST = 10.0                                       # what else may be swept reaches from -WIDEST to WIDEST


def check(scene, sweep):
    """Raise UserError unless the people of a scene can be swept as `sweep`, (what, low, high, count), says."""
    what, low, high, _ = sweep
    plain = [*latents.ANGLES, *LIGHT]
    named = [*OF_PEOPLE, *makehuman_expressions.NAMED, *makehuman_expressions.MODES]
    if what not in plain + named:
        raise UserError(f"--sweep {what}: must be one of {', '.join(dict.fromkeys(plain + named))}")
    if what in named and not scene.cast:
        raise UserError(f"--sweep {what}: only people of --model makehuman have it; of others, sweep "
                        f"{', '.join(plain)}")
    least, most = LIMITS.get(what, (-WIDEST, WIDEST))
    if not (least <= low <= most and least <= high <= most):
        raise UserError(f"--sweep {what} {low:g} {high:g}: must be from {least:g} to {most:g}")


def plan(scene, sweep, identity):
    """Plan the images of person number `identity` -> (subjects, expressions, renderer.Shots), one of each an image.

    Light and colour are those of the person's first image; the head looks ahead, in the expression of its rest.
    """
    what, low, high, count = sweep
    values = np.linspace(low, high, count)
    expression, shot = sample_shot(scene, identity, 1)
    pose = np.array(shot.pose)
    pose[:3] = 0
    pose[3:5] = 225, 205
    subjects = _subjects(scene, what, values, identity)
    expressions, shots = [], []
    for value in values:
        light, turned, mode = np.array(shot.illumination), pose.copy(), np.zeros_like(expression)
        if what in latents.ANGLES:
            turned[latents.ANGLES[what]] = value
        elif what in LIGHT:
            light[LIGHT[what]] = value
        elif what not in OF_PEOPLE:
            parts = makehuman_expressions.NAMED.get(what, {what: 1.0})
            mode = value * makehuman_expressions.coefficients(parts)
        expressions.append(mode)
        shots.append(shot._replace(illumination=light, pose=turned))
    return subjects, expressions, shots


def _subjects(scene, what, values, identity):
    """List the scene.Subject of each of `values`. Between two people is between this one and the next."""
    if what not in OF_PEOPLE:
        return [sample_subject(scene, identity)] * len(values)
    catalogue, wishes = list(scene.cast.head.catalogue), scene.cast.wishes
    one, other = (makehuman_people.draw_person(catalogue, wishes, scene.seed, number)
                  for number in (identity, identity + 1))
    people = [makehuman_people.set_age(catalogue, one, value) if what == "age" else
              makehuman_people.blend(one, other, value) for value in values]
    return [show_person(scene, person) for person in people]
