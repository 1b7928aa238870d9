"""cli/options on commands of its own: types, lists, pairs, positional words, layers of values, sub-commands, help."""
import argparse
import json
import math

import pytest

from cli.options import (
    boolean,
    changed_options,
    checked,
    choose,
    Command,
    help_of,
    number,
    one_of,
    overview,
    parse,
    path,
    text,
    whole,
    words,
)
from tool import one_line
from utils import UserError


def drawing(add):
    add("size", whole(16, unit=" of pixels"), 64, "side")
    add("colours", text, [], "names", values="+")
    add("turn", number(-1, 1), [-.5, .5], "least and most turn", values=("LEAST", "MOST"))
    add("margin", whole(0), None, "pixels around", "a quarter of size")
    add("output", text, None, "folder", needed=True)


def others(add):
    add("flag", boolean, False, "a flag")
    add("seed", whole(0), 1, "a seed")
    add("run", path, "", "a run that remembers its options")


def resolve(options, error):
    options.margin = options.size // 4 if options.margin is None else options.margin
    if options.margin > options.size:
        error(f"--margin {options.margin}: more than --size {options.size}")


def remembered(options):
    return [(options.run, {"size": 32, "seed": 7, "flag": True, "unknown": 1})] if options.run else []


DRAW = Command("toy.py", "draw", "Draw something.", ("toy.py draw --output out",),
               {"Drawing": drawing, "Other": others}, resolve, remembered, ("ancient",), presets=True)
LIST = Command("toy.py", "list", "List files.", ("toy.py list a b", "toy.py list c"), {
    "Files": lambda add: add("files", path, [], "files to list", needed=True, positional=True)})


def options_of(line, command=DRAW):
    return parse(command, line.split()).options


def refused(capsys, line, start, command=DRAW):
    with pytest.raises(SystemExit) as end:
        parse(command, line.split())
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "") and err.startswith(f"{command.program}: error: {start}"), err
    assert err.count("\n") == 1


# Types

@pytest.mark.parametrize("kind, word, value", [
    (whole(1), "1", 1), (whole(1), "007", 7), (whole(0, 9), "9", 9), (number(), "-1e-3", -.001), (number(0), "0", 0.),
    (number(above=0, most=1), "1", 1.), (number(0, below=1), ".999", .999), (one_of(("a", "b")), "B", "b"),
    (one_of(("A",), str.upper), "a", "A"), (boolean, "TRUE", True), (boolean, "0", False), (text, "x y", "x y"),
    (path, "", ""), (checked("N", len, lambda n: n > 2, "long"), "abc", 3)])
def test_a_good_word(kind, word, value):
    assert kind(word) == value and type(kind(word)) is type(value)


@pytest.mark.parametrize("kind, word, allowed", [
    (whole(1), "9" * 20, "at most 2147483647"), (number(0), "1e10", "at most 1000000000"),
    (number(0), "-1e10", "a number, 0 or more"), (number(0), "inf", "a number, 0 or more"),
    (whole(1), "0", "a whole number, 1 or more"), (whole(1), "1.0", "a whole number, 1 or more"),
    (whole(1, unit=" of pixels"), "x", "a whole number of pixels, 1 or more"),
    (whole(0, 9), "10", "a whole number from 0 to 9"), (number(), "nan", "a number"), (number(), "inf", "a number"),
    (number(0), "-1", "a number, 0 or more"), (number(above=0, most=1), "0", "a number, above 0, up to 1"),
    (number(0, below=1), "1", "a number, 0 or more, below 1"), (one_of(("a", "b")), "c", "one of a, b"),
    (boolean, "maybe", "true, false, 1, 0, yes or no"), (text, "", "a name that is not empty"),
    (checked("N", len, lambda n: n > 2, "long"), "ab", "long")])
def test_a_bad_word(kind, word, allowed):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        kind(word)
    assert str(error.value) == f"{word}: must be {allowed}"


# Lines

def test_lists_pairs_and_flags():
    options = options_of("--output o --colours red green --turn -1 -.25 --flag --size 20")
    assert (options.colours, options.turn, options.flag, options.size) == (["red", "green"], [-1., -.25], True, 20)
    assert options_of("--output o --flag no").flag is False


def test_synonyms_and_equals_signs():
    options = options_of("--output=o --input_scale_size=20 --random_seed 5")
    assert (options.output, options.size, options.seed) == ("o", 20, 5)
    assert not hasattr(options, "input_scale_size")


def test_positional_words():
    assert options_of("a b/c", LIST).files == ["a", "b/c"]


@pytest.mark.parametrize("line, start", [
    ("", "--output: needed; --help tells more"), ("--output", "--output "), ("--output o --turn 1", "--turn "),
    ("--output o --turn 1 2", "--turn 2: must be a number, -1 or more, up to 1"),
    ("--output o --colours", "--colours "), ("--output o more", "more: no option takes this value"),
    ("--output o --colour red", "--colour: unknown option (did you mean --colours?)"),
    ("--output o --input_scale_size 3", "--size 3: must be a whole number of pixels, 16 or more"),
    ("--output o --qqq", "--qqq: unknown option (--help lists all)"),
    ("--output o --size 20 --margin 30", "--margin 30: more than --size 20")])
def test_a_mistake_is_one_line(capsys, line, start):
    refused(capsys, line, start)


def test_positional_words_may_be_needed(capsys):
    refused(capsys, "", "PATH: needed; --help tells more", LIST)


# Layers

def test_each_layer_wins_over_those_before(tmp_path):
    """Defaults, the run, the preset, the command line."""
    preset = tmp_path / "mine.json"
    preset.write_text(json.dumps({"toy.py draw": {"seed": 8, "output": "from preset", "turn": [0, 1]}, "other": 3}))
    assert vars(options_of("--output o")) == dict(
        preset=None, size=64, colours=[], turn=[-.5, .5], margin=16, output="o", flag=False, seed=1, run="")
    options = options_of("--output o --run r")
    assert (options.size, options.margin, options.seed, options.flag) == (32, 8, 7, True)
    options = options_of(f"--run r --preset {preset}")
    assert (options.size, options.seed, options.output, options.turn) == (32, 8, "from preset", [0., 1.])
    options = options_of(f"--run r --preset {preset} --seed 9 --flag False")
    assert (options.size, options.seed, options.flag) == (32, 9, False)


def test_what_was_given_and_what_was_taken_from_a_run():
    parsed = parse(DRAW, ["--output", "o", "--run", "r", "--seed", "3", "--ancient"])
    assert parsed.given == {"output": "o", "run": "r", "seed": 3} and parsed.legacy == ["ancient"]
    assert parsed.notes == ["r: its options are taken where none is given: --size 32 --flag True"]
    assert parse(DRAW, ["--output", "o"]).notes == []


@pytest.mark.parametrize("section, part", [
    ({"size": 3}, "size 3: must be a whole number of pixels, 16 or more; correct it there, or give --size"),
    ({"turn": [0]}, "turn [0]: must be 2 values"), ({"turn": .5}, "turn 0.5: must be a list"),
    ({"size": [20]}, "size [20]: must be one value"), ({"zise": 20}, "toy.py draw has no option zise"),
    ([1], "has no options of toy.py draw"), (None, "has no options of toy.py draw")])
def test_a_bad_preset(tmp_path, section, part):
    preset = tmp_path / "mine.json"
    preset.write_text(json.dumps({} if section is None else {"toy.py draw": section}))
    with pytest.raises(UserError) as error:
        options_of(f"--output o --preset {preset}")
    one_line(error, f"--preset {preset}: ", part)


def test_changed_options():
    """Against the defaults, resolved alike."""
    assert changed_options(DRAW, options_of("--output o")) == {"output": "o"}
    assert changed_options(DRAW, options_of("--output o --size 32 --colours a b")) == {
        "output": "o", "size": 32, "margin": 8, "colours": ["a", "b"]}


def test_words():
    assert words({"a": 1, "b": ["x", "y"], "c": (0., .5), "d": True}) == "--a 1 --b x y --c 0.0 0.5 --d True"
    assert words({}) == ""


# Sub-commands and help

def test_choose():
    assert choose([DRAW, LIST], ["list", "draw"]) == (LIST, ["draw"])
    assert choose([DRAW, LIST], ["draw"]) == (DRAW, [])
    for line in ([], ["--size", "3"]):
        assert choose([DRAW, LIST], line, default="draw") == (DRAW, line)


@pytest.mark.parametrize("line, default, message", [
    ([], None, "give a command: draw, list; --help tells more"),
    (["--size", "3"], None, "give a command: draw, list; --help tells more"),
    (["lst"], None, "lst: no such command; give one of draw, list"),
    (["lst"], "draw", "lst: no such command; give one of draw, list")])
def test_choose_refuses(capsys, line, default, message):
    with pytest.raises(SystemExit) as end:
        choose([DRAW, LIST], line, default)
    assert (end.value.code, capsys.readouterr().err) == (2, f"toy.py: error: {message}\n")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help(capsys, word):
    with pytest.raises(SystemExit) as end:
        choose([DRAW, LIST], [word])
    assert end.value.code == 0 and capsys.readouterr().out == overview([DRAW, LIST])
    with pytest.raises(SystemExit) as end:
        parse(DRAW, [word])
    assert end.value.code == 0 and capsys.readouterr().out == help_of(DRAW)


def test_what_help_says():
    told = help_of(DRAW)
    for line in ("Draw something.", "Example:\n    python toy.py draw --output out", "Drawing:", "Other:",
                 "  --size N, --input_scale_size N\n      side (default: 64)", "  --colours NAME [NAME ...]\n",
                 "(default: none)", "  --turn LEAST MOST\n", "(default: a quarter of size)", "folder (needed)",
                 "  --flag [BOOL]\n", "  --seed N, --random_seed N\n", "  --preset NAME\n"):
        assert line in told, told
    assert "ancient" not in told and max(map(len, told.splitlines())) <= 100
    assert "  PATH [PATH ...]\n" in help_of(LIST) and "Examples:\n" in help_of(LIST)
    assert "draw: Draw something.\n    python toy.py draw --output out" in overview([DRAW, LIST])


def test_values_are_plain():
    """So that params.json can hold them, and be read again."""
    options = vars(options_of("--output o --turn 0 1 --colours a"))
    assert json.loads(json.dumps(options)) == options
    assert all(not isinstance(value, float) or math.isfinite(value) for value in options.values())
