"""The expressions of MakeHuman's head, made of face units: modes that go both ways, and named ones for figures."""
import numpy as np

from morphable.makehuman import files as makehuman_files

# What everybody's rest is: a slightly pleasant face
REST = {"laugh": .12, "smile": .3, "squint": .1, "brow_up": -.04}
# Each mode: its deviation, and the face units that it is made of. _ stands for Left and Right alike.
MODES = {
    "laugh": (.45, {"mouthSmile_": .68, "jawOpen": .17, "cheekSquint_": .4, "eyeSquint_": .15, "mouthUpperUp_": .24,
                    "mouthLowerDown_": .2}),
    "open": (.085, {"jawOpen": 1}), "smile": (.2, {"mouthSmile_": 1}), "blink": (.1, {"eyeBlink_": 1}),
    "brow_up": (.4, {"browOuterUp_": 1, "browInnerUp": .6}), "brow_down": (.1, {"browDown_": 1}),
    "wide": (.18, {"eyeWide_": 1}), "squint": (.22, {"eyeSquint_": 1}), "pucker": (.18, {"mouthPucker": 1}),
    "funnel": (.12, {"mouthFunnel": 1}), "frown": (.09, {"mouthFrown_": 1}), "stretch": (.09, {"mouthStretch_": 1}),
    "gaze_side": (.3, {"eyeLookInLeft": -1, "eyeLookOutLeft": 1, "eyeLookInRight": 1, "eyeLookOutRight": -1}),
    "gaze_up": (.2, {"eyeLookUp_": 1, "eyeLookDown_": -1}),
    "upper_up": (.13, {"mouthUpperUp_": 1}), "lower_down": (.22, {"mouthLowerDown_": 1}),
    "sneer": (.09, {"noseSneer_": 1}),
    "puff": (.12, {"cheekPuff": 1}), "mouth_side": (.11, {"mouthLeft": 1, "mouthRight": -1}),
    "jaw_side": (.14, {"jawLeft": 1, "jawRight": -1}), "jaw_forward": (.15, {"jawForward": 1}),
    "press": (.2, {"mouthPress_": 1}), "dimple": (.3, {"mouthDimple_": 1}),
    "smile_side": (.1, {"mouthSmileLeft": 1, "mouthSmileRight": -1}),
    "brow_side": (.3, {"browOuterUpLeft": 1, "browOuterUpRight": -1}),
    "blink_side": (.07, {"eyeBlinkLeft": 1, "eyeBlinkRight": -1}), "roll_lower": (.13, {"mouthRollLower": 1}),
    "roll_upper": (.1, {"mouthRollUpper": 1}), "shrug": (.15, {"mouthShrugLower": 1}),
    "inner_up": (.3, {"browInnerUp": 1}), "cheek": (.2, {"cheekSquint_": 1}),
    "sneer_side": (.1, {"noseSneerLeft": 1, "noseSneerRight": -1})}
# What people in photos do: how often, and the modes that it takes, each from and to; chosen so that mouths are as often
# and as far open, and their corners as high, as in news photos
HABITS = (
    (.26, {}), (.20, {"smile": (.1, .45), "cheek": (0, .3)}),
    (.27, {"laugh": (.35, 1.1), "smile": (0, .3), "squint": (0, .25), "open": (0, .10)}),
    (.17, {"open": (.08, .30), "lower_down": (.1, .5), "upper_up": (0, .2), "funnel": (0, .2), "brow_up": (-.1, .4)}),
    (.03, {"open": (.15, .4), "brow_up": (.4, .9), "wide": (.2, .5)}),
    (.03, {"brow_down": (.3, .7), "press": (.1, .5), "frown": (.1, .3), "smile": (-.15, 0)}),
    (.02, {"inner_up": (.4, .9), "frown": (.2, .4), "laugh": (-.15, 0), "smile": (-.15, 0)}),
    (.02, {"pucker": (.3, .7)}))
LOOSENESS, CROOKED = .4, .22            # how far other modes go with these, in shares of deviations; and sideways ones
# Expressions by name, as coefficients of modes on top of REST
NAMED = {
    "neutral": {"laugh": -.12, "smile": -.3}, "rest": {}, "smile": {"smile": .4, "cheek": .25},
    "laugh": {"laugh": .95, "squint": .2}, "surprise": {"open": .35, "brow_up": .9, "wide": .5, "laugh": -.1},
    "anger": {"brow_down": 1.1, "sneer": .4, "frown": .5, "press": .4, "laugh": -.1, "smile": -.2},
    "sadness": {"inner_up": 1.1, "frown": .8, "laugh": -.12, "smile": -.2}, "blink": {"blink": .95},
    "pucker": {"pucker": .7, "laugh": -.1}, "wink": {"blink": .45, "blink_side": .45, "smile": .3}}


def units():
    """List the face units that modes need."""
    return sorted({unit for _, parts in MODES.values() for name in parts for unit in _sides(name)})


def _sides(name):
    """List the face units that a name of MODES stands for."""
    return [name[:-1] + side for side in ("Left", "Right")] if name.endswith("_") else [name]


def read_modes(root, coarse, count):
    """Read the modes below `root` -> (fields [n, C, 3] of the coarse vertices, deviations [n]). Raises UserError.

    `coarse` [C] are the numbers of those vertices among the `count` ones of base.obj.
    """
    moves = {unit: makehuman_files.read_target(root, f"{makehuman_files.UNITS}/{unit}.target", count)[coarse]
             for unit in units()}
    fields = [sum(weight * moves[unit] for name, weight in parts.items() for unit in _sides(name))
              for _, parts in MODES.values()]
    return np.array(fields, np.float32), np.array([deviation for deviation, _ in MODES.values()], np.float32)


def coefficients(parts):
    """Make coefficients [n] of modes from {mode: weight}."""
    return np.array([parts.get(name, 0.0) for name in MODES])


def draw(random):
    """Draw an expression that people have in photos, by a np.random.Generator -> coefficients [n] of modes."""
    habit = HABITS[random.choice(len(HABITS), p=[share for share, _ in HABITS])][1]
    strength, loose = random.random(), random.standard_normal(len(MODES))
    free = {name: CROOKED if name.endswith("_side") and name != "gaze_side" else LOOSENESS for name in MODES}
    result = np.array([free[name] * MODES[name][0] for name in MODES]) * np.clip(loose, -2.5, 2.5)
    for mode in ("laugh", "open"):          # their negatives push lips through each other
        result[list(MODES).index(mode)] = 0
    return result + coefficients({mode: low + (high - low) * strength for mode, (low, high) in habit.items()})
