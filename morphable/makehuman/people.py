"""Who people of MakeHuman's head are: age, sex, origin, the weights of targets, skin, hair; drawn from given shares.

A person is drawn from the weights of targets themselves, not from a blend of people, so that there are plainly old and
young, male and female people of each origin, and mixed ones. All follows from the seed and the number of the person.
"""
import functools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from morphable.latents import make_generator

ORIGINS = "african", "asian", "caucasian"
SEXES = "female", "male"
CHILD, ADULT, OLDEST = 5.0, 18.0, 90.0      # years
PERSON_STREAM, ORDER_STREAM = 3, 4          # of random numbers, apart from those of latents.py
LONGEST_BLOCK = 240                         # people among whom shares are exact, at most
GLASSES_SHARE = .06, .34                    # of the people wear glasses, at 25 years and at 65
VARIETY = 1.15                              # factor of all deviations below
PURE_SHARE = .72                            # of the people are of one origin, or nearly so
# Ages of macro targets, as MakeHuman has them: a target's weight falls to 0 at its neighbours
STAGES = {"baby": 1.0, "child": 11.0, "young": 25.0, "old": 88.0}
LEVELS = {"min": 0.0, "average": .5, "max": 1.0}        # of muscle and of weight
OPPOSITES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
             ("compress", "uncompress"))
# Deviations of weights by the first words of a target's name; the longest that fits counts. Larger ones make monsters.
DEVIATIONS = {
    "cheek": .33, "chin": .33, "mouth": .33, "nose": .33, "eye": .3, "ear": .22, "eyebrows": .28, "forehead": .35,
    "head": .2, "neck": .1, "asym": .16, "forehead-nubian": .12, "forehead-scale-vert": .13,
    "eyebrows-trans-forward": .15, "eyebrows-angle": .15, "mouth-angles": .12,
    "head-fat": .18, "head-angle": .15, "head-scale": .2, "chin-height": .22, "chin-bones": .25, "chin-jaw-drop": .18,
    "mouth-scale-vert": .18, "mouth-trans": .15, "nose-trans": .15, "nose-scale-depth": .25, "nose-compression": .2,
    "nose-greek": .2, "eye-push": .2, "eye-bag": .2, "eye-scale": .22, "ear-wing": .2, "neck-scale-vert": .06,
    "measure-neck": .06, "neck-trans": 0, "head-trans": 0, "head-age": 0, "mouth-trans-in": .06, "mouth-trans-out": .06,
    "nose-trans-in": .06, "nose-trans-out": .06}
# Mean weights of targets without an opposite
FORMS = {"head-oval": .3, "head-invertedtriangular": .12, "head-diamond": .08, "head-round": .08, "head-square": .05,
         "head-rectangular": .07, "head-triangular": .04, "chin-triangle": .08}
CUTS = "bald", "buzz", "short", "parted", "curly", "swept", "bob", "long", "bun"
BEARDS = "none", "stubble", "moustache", "goatee", "full"
GLASSES = "none", "round", "square", "half-rim"


class Wishes(NamedTuple):
    """What people are asked for."""
    age: tuple = (18.0, 75.0)               # lowest and highest, in years
    female: float = .5                      # share of women
    origin: tuple = (1.0, 1.0, 1.0)         # weights of ORIGINS


class Person(NamedTuple):
    """Who somebody is. Numbers may be blended with another person's; `cut`, `beard` and `glasses` may not."""
    age: float                              # years
    female: float                           # 1: a woman, 0: a man
    origin: np.ndarray                      # [3] shares of ORIGINS
    weights: np.ndarray                     # [n] of the targets
    traits: np.ndarray                      # [len(TRAITS)] of skin, eyes and hair
    cut: int                                # of the hair, index in CUTS
    beard: int                              # index in BEARDS
    glasses: int = 0                        # index in GLASSES


# What makes skin, eyes and hair; most are about 0 with a deviation of 1, shares are in 0..1
TRAITS = ("melanin", "yellow", "ruddy", "blush", "freckles", "wrinkles", "bags", "spots", "lip_red", "lip_dark",
          "liner", "shadow", "gloss", "stubble", "brow_dark", "brow_thick", "brow_high", "brow_arch", "eye_melanin",
          "eye_green", "hair_melanin", "hair_red", "grey", "curl", "length", "volume", "line", "temples", "crown",
          "side", "fringe", "beard_length", "phase")
PLAIN_STUBBLE = .5          # from which stubble is seen at a glance, and named


# Exact shares

def _place(seed, what, identity, length):
    """Find the place of number `identity`, from 1, in a shuffled block of `length` people -> 0..length - 1."""
    block, within = divmod(max(identity - 1, 0), length)
    return int(make_generator(seed, ORDER_STREAM, what, block).permutation(length)[within])


def _whole_shares(weights):
    """Scale weights to the smallest whole numbers with the same shares -> list of int."""
    exact = [Fraction(str(weight)) for weight in weights]
    shares = [weight / (sum(exact) or 1) for weight in exact]
    scale = math.lcm(*(share.denominator for share in shares))
    return [int(share * scale) for share in shares]


def _round_shares(counts, length):
    """Round counts to a sum of `length`, by the largest remainders -> list of int. None above 0 becomes 0."""
    exact = [Fraction(count * length, sum(counts)) for count in counts]
    rounded = [max(int(share), 1) if share else 0 for share in exact]
    while sum(rounded) != length:
        step = 1 if sum(rounded) < length else -1
        gaps = [step * (share - count) if count > (step < 0) else -length
                for share, count in zip(exact, rounded)]
        rounded[gaps.index(max(gaps))] += step
    return rounded


def are_rounded(wishes):
    """Tell whether the shares that are wished need longer blocks than there are, so that they are rounded."""
    return sum(_whole_shares(wishes.origin)) * sum(_whole_shares([wishes.female, 1 - wishes.female])) > LONGEST_BLOCK


def draw_cell(wishes, seed, identity):
    """Draw origin and sex of number `identity` -> (index in ORIGINS, index in SEXES).

    In each block of consecutive numbers, as long as the shares need, every combination comes as often as its share.
    """
    origins = _whole_shares(wishes.origin)
    sexes = _whole_shares([wishes.female, 1 - wishes.female])
    kinds = [(origin, sex) for origin in range(len(origins)) for sex in range(len(sexes))]
    counts = [origins[origin] * sexes[sex] for origin, sex in kinds]
    if sum(counts) > LONGEST_BLOCK:
        counts = _round_shares(counts, LONGEST_BLOCK)
    cells = [kind for kind, count in zip(kinds, counts) for _ in range(count)]
    return cells[_place(seed, 0, identity, len(cells))]


# People

def draw_person(catalogue, wishes, seed, identity):
    """Draw the Person number `identity`. `catalogue` is a list of target names, as `list_catalogue` orders them."""
    origin, sex = draw_cell(wishes, seed, identity)
    random = make_generator(seed, PERSON_STREAM, identity)
    steps = 12
    share = (_place(seed, 1, identity, steps) + random.random()) / steps
    age = wishes.age[0] + share * (wishes.age[1] - wishes.age[0])
    female = np.clip(abs(random.normal(0, .09)), 0, .3)
    female = 1 - female if SEXES[sex] == "female" else female
    shares = _mix(random, origin, wishes.origin)
    weights = _draw_weights(random, catalogue, age, female, shares)
    traits, cut, beard = _draw_traits(random, age, SEXES[sex] == "female", shares)
    wears = random.random() < np.interp(age, [8, 25, 65], [0, *GLASSES_SHARE])
    glasses = random.integers(1, len(GLASSES)) if wears else 0
    return Person(float(age), float(female), shares, weights, traits, cut, beard, int(glasses))


def _mix(random, origin, wanted):
    """Draw shares of ORIGINS with the most of `origin`; nothing of an origin whose wanted weight is 0."""
    pure, other = random.random() < PURE_SHARE, random.dirichlet([.6, .6, .6]) * (np.array(wanted) > 0)
    part = random.uniform(0, .08) if pure else random.uniform(.12, .45)
    other[origin] = 0
    total = other.sum()
    shares = other / total * part if total > 1e-6 else np.zeros(3)
    shares[origin] = 1 - shares.sum()
    return shares


def blend(one, other, share):
    """Blend two people -> the Person who is `share` of the way from `one` to `other`.

    What can't be blended is that of the nearer one.
    """
    nearer = one if share < .5 else other
    numbers = {name: (1 - share) * np.asarray(getattr(one, name)) + share * np.asarray(getattr(other, name))
               for name in ("age", "female", "origin", "weights", "traits")}
    numbers["traits"][TRAITS.index("phase")] = nearer.traits[TRAITS.index("phase")]
    return nearer._replace(**numbers)


def set_age(catalogue, person, age):
    """Return the Person at another age, of average muscle and weight; all else stays."""
    macros, ratio = macro_weights(age, person.female, person.origin, .5, .5), (age - 45) / 20
    weights = person.weights.copy()
    for index, name in enumerate(catalogue):
        if name.startswith("macrodetails/"):
            weights[index] = macros.get(name.partition("/")[2], 0)
    traits = person.traits.copy()
    put = TRAITS.index
    traits[put("wrinkles")] = np.clip((age - 34) / 38, 0, 1.15)
    traits[put("grey")] = np.clip(.5 + ratio * .6, 0, 1)
    return person._replace(age=float(age), weights=weights, traits=traits)


# Weights of targets

def list_catalogue(files):
    """Order the targets that people are made of: names `folder/target` of those in `files` {folder: [names]}."""
    macro = [f"macrodetails/{name}" for name in files["macrodetails"] if name.count("-") in (2, 4) and
             "baby" not in name]
    local = [f"{folder}/{name}" for folder in files for name in files[folder]
             if folder != "macrodetails" and not name.startswith("asymm-") and _deviation(name) > 0]
    return sorted(macro) + sorted(local)


def macro_weights(age, female, origin, muscle, weight):
    """Compute the weights of macro targets -> {name: weight}; weights of a kind add up to 1."""
    stages, levels = _hats(age, {name: year for name, year in STAGES.items() if name != "baby"}), {}
    sexes = {"female": female, "male": 1 - female}
    for share, name in zip(origin, ORIGINS):
        levels.update({f"{name}-{sex}-{stage}": share * of_sex * of_stage
                       for sex, of_sex in sexes.items() for stage, of_stage in stages.items()})
    for sex, of_sex in sexes.items():
        for stage, of_stage in stages.items():
            for m, of_muscle in _hats(muscle, LEVELS).items():
                for w, of_weight in _hats(weight, LEVELS).items():
                    levels[f"universal-{sex}-{stage}-{m}muscle-{w}weight"] = of_sex * of_stage * of_muscle * of_weight
    return levels


def _hats(value, knots):
    """Interpolate linearly between knots -> {name: weight}; all weights add up to 1."""
    places = list(knots.values())
    return {name: float(np.interp(value, places, np.eye(len(places))[index])) for index, name in enumerate(knots)}


@functools.cache
def _deviation(name):
    """Find the deviation of a target's weight by its name."""
    plain = name.removeprefix("l-").removeprefix("r-")
    fits = [begin for begin in DEVIATIONS if plain == begin or plain.startswith(begin)]
    return DEVIATIONS[max(fits, key=len)] if fits else 0


def _draw_weights(random, catalogue, age, female, origin):
    """Draw the weights [n] of the targets in `catalogue`."""
    muscle = np.clip(random.normal(.54 - .1 * female, .14), .1, .95)
    heavy = np.clip(random.normal(.47 + .05 * (age > 40), .17), .05, .97)
    macros = macro_weights(age, female, origin, muscle, heavy)
    drawn, weights = {}, np.zeros(len(catalogue))
    childlike = np.clip((ADULT - age) / 12, 0, 1)
    for index, full in enumerate(catalogue):
        name = full.rpartition("/")[2]
        if full.startswith("macrodetails/"):
            weights[index] = macros.get(name, 0)
            continue
        if name in FORMS:
            weights[index] = max(0, random.normal(FORMS[name], .6 * FORMS[name] + .04))
            continue
        deviation = VARIETY * _deviation(name) * (1 - .5 * childlike)
        key, sign = _axis(name)
        if key not in drawn:
            drawn[key] = random.standard_normal()
        value = drawn[key] * deviation
        if name.startswith(("l-", "r-")):       # the two sides differ a little
            side = key + name[0]
            if side not in drawn:
                drawn[side] = random.normal(0, .1 * deviation + .015)
            value += drawn[side]
        weights[index] = max(0, sign * np.clip(value, -2.3 * deviation, 2.3 * deviation))
    return weights


@functools.cache
def _axis(name):
    """Tell along which axis a target moves -> (name of the axis, 1 or -1); both sides of a face share an axis."""
    plain = name.removeprefix("l-").removeprefix("r-")
    if plain.startswith("asym-"):
        return plain[:-2], 1 if plain.endswith("-l") else -1
    for negative, positive in OPPOSITES:
        for word, sign in ((negative, -1), (positive, 1)):
            if plain.endswith("-" + word):
                return plain.removesuffix(word), sign
    return plain, 1


# Skin, eyes, hair

def _draw_traits(random, age, woman, origin):
    """Draw skin, eyes and hair, which go by age, sex and origin -> (traits, cut, beard)."""
    african, asian, caucasian = origin
    old = np.clip((age - 34) / 38, 0, 1.2)                      # 0 at 34 years, 1 at 72
    grown = np.clip((age - 14) / 6, 0, 1)
    normal, uniform = random.standard_normal, random.random
    dark = african + asian
    hair = .97 * dark + caucasian * np.clip(random.normal(.55, .26), 0, 1)
    grey = np.clip(1 / (1 + np.exp(-(age - 59 - 8 * normal() - 4 * african) / 6)), 0, 1) * (age > 28)
    dyed = woman and uniform() < .45
    values = dict(
        melanin=np.clip(.84 * african + .32 * asian + .13 * caucasian + .075 * normal() * (1 + .6 * african), 0, 1),
        yellow=.55 * asian + .35 * normal(), ruddy=.5 * caucasian + .5 * normal() - .3 * asian, blush=.5 * normal(),
        freckles=max(0, normal() - 1.3) * caucasian, wrinkles=np.clip(old + .12 * normal(), 0, 1.25),
        bags=np.clip(.3 + .5 * old + .25 * normal(), 0, 1.3), spots=np.clip(old - .45 + .2 * normal(), 0, 1),
        lip_red=.55 * normal() + (.5 if woman else -.35), lip_dark=.5 * normal(),
        liner=np.clip((.55 if woman else .2) + .2 * normal(), .1, 1) * (1 if grown else .6),
        shadow=np.clip(.35 * normal(), 0, 1) * woman * grown, gloss=np.clip(1 + .35 * normal(), .3, 1.8),
        stubble=0 if woman else np.clip(.42 + .3 * normal(), 0, 1) * np.clip((age - 16) / 8, 0, 1),
        brow_dark=.5 * normal(), brow_thick=(-.55 if woman else .45) + .5 * normal(), brow_high=.6 * normal(),
        brow_arch=(.5 if woman else -.2) + .5 * normal(),
        eye_melanin=np.clip(.95 * dark + caucasian * (uniform() < .5) * .6 + .12 * normal(), 0, 1),
        eye_green=np.clip(normal() * .6, 0, 1), hair_melanin=np.clip(hair, .02, 1),
        hair_red=max(0, normal() - .9) * caucasian, grey=grey * (.25 if dyed else 1), curl=0, length=normal(),
        volume=normal(), line=normal(), temples=normal(), crown=normal(), side=normal(), fringe=normal(),
        beard_length=uniform(), phase=uniform())
    cut = _draw_cut(random, age, woman, african)
    values["curl"] = np.clip(.9 * african + caucasian * (.3 + .35 * normal()) + .05 * asian, 0, 1)
    if not woman and age > 24:                                  # hair that goes back
        gone = max(0, normal() * .8 + .9 * old - .1)
        values["temples"] += gone
        values["line"] += .7 * gone
        values["crown"] = 1.3 * gone - .6
        if gone > 1.9 and uniform() < .6:
            cut = "bald"
    else:
        values["crown"] = -1.0
    beard = "none"
    if not woman and age > 19:
        chances = np.array([.46, .2, .05, .08, .21]) * [1 + .8 * asian, 1, 1, 1, 1 - .75 * asian]
        beard = random.choice(BEARDS, p=chances / chances.sum())
    if beard == "stubble":
        values["stubble"] = .85 + .15 * uniform()
    elif beard == "none" and values["stubble"] >= PLAIN_STUBBLE:
        beard = "stubble"
    return np.array([values[name] for name in TRAITS], np.float64), CUTS.index(cut), BEARDS.index(beard)


def _draw_cut(random, age, woman, african):
    """Draw a cut of the hair -> one of CUTS."""
    if woman:
        chances = dict(buzz=.01 + .05 * african, short=.07 + .1 * (age > 50), parted=.04, curly=.08 + .5 * african,
                       swept=.08, bob=.22, long=.34 * (1 - .5 * african) * (.6 if age > 60 else 1), bun=.2)
    else:
        chances = dict(bald=(.04 + .05 * african) * (age > 22), buzz=.14 + .4 * african, short=.36,
                       parted=.2 * (1 - .8 * african), curly=.05 + .25 * african, swept=.15 * (1 - .7 * african),
                       long=.02)
    shares = np.array(list(chances.values()))
    return str(random.choice(list(chances), p=shares / shares.sum()))


# Labels

def label(person):
    """Name what is known of a Person -> {field: value} for latents.npz."""
    return {"age": person.age, "female": person.female, "origin": person.origin, "origins": np.array(ORIGINS),
            "hair": CUTS[person.cut], "beard": BEARDS[person.beard],
            "glasses": GLASSES[person.glasses],
            "trait_names": np.array(TRAITS)}
