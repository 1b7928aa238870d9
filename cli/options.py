"""The grammar of every command line: types of values, options with their help, and a parser with one line for a mistake."""
import argparse
import difflib
import math
import re


class Parser(argparse.ArgumentParser):
    """Answers any mistake with one line on stderr and exit status 2, without a usage block."""

    def __init__(self, prog, usage=None, **options):
        super().__init__(prog=prog, usage=usage, allow_abbrev=False, exit_on_error=False, **options)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")    # -1e-3 is a value too, if a bad one

    @property
    def visible(self):
        """The options that --help shows."""
        return [name for name, action in self._option_string_actions.items()
                if action.help != argparse.SUPPRESS and action.dest != "help"]

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    def parse_args(self, args=None, namespace=None):
        """The namespace of `args`, where anything that is no known option is an error that names the closest one."""
        try:
            config, unknown = self.parse_known_args(args, namespace)
        except argparse.ArgumentError as problem:
            self.error(f"{problem.argument_name} {problem.message}")
        if not unknown:
            return config
        name = next((word for word in unknown if word.startswith("-")), None)
        if name is None:
            self.error(f"{unknown[0]}: no option takes this value")
        name = name.split("=")[0]
        close = difflib.get_close_matches(name, self.visible, n=1)
        self.error(f"{name}: unknown option ({f'did you mean {close[0]}?' if close else '--help lists all'})")


def checked(metavar, convert, valid, allowed):
    """An argparse type: `convert` the text (or raise ValueError); `allowed` says what `valid` accepts."""
    def parse(word):
        try:
            value = convert(word)
            if valid(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{word}: must be {allowed}")

    parse.metavar = metavar
    return parse


def one_of(names, convert=str.lower):
    """An argparse type: one of `names`, in any case."""
    return checked("{" + ",".join(names) + "}", convert, names.__contains__, "one of " + ", ".join(names))


BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
boolean = checked("BOOL", lambda word: BOOLS.get(word.lower()), lambda value: value is not None,
                  "true, false, 1, 0, yes or no")
text = checked("NAME", str, bool, "a name that is not empty")
path = checked("PATH", str, lambda value: True, "a path")
count = checked("N", int, lambda n: n >= 1, "a whole number, 1 or more")
count_or_0 = checked("N", int, lambda n: n >= 0, "a whole number, 0 or more")
pixels = checked("N", int, lambda n: n >= 32, "a whole number of pixels, 32 or more")
seed = checked("N", int, lambda n: 0 <= n < 2 ** 31, "a whole number from 0 to 2147483647")
above_0 = checked("X", float, lambda x: 0 < x < math.inf, "a number above 0")
not_below_0 = checked("X", float, lambda x: 0 <= x < math.inf, "a number, 0 or more")
share = checked("X", float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
keep = checked("X", float, lambda x: 0 < x <= 1, "a number above 0, up to 1")
decay = checked("X", float, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def side(word):
    """An argparse type: the side of a crop, which both generators halve twice."""
    allowed = f"{word}: must be a multiple of 4, 16 or more"
    try:
        value = int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(allowed) from None
    if value < 16 or value % 4:
        raise argparse.ArgumentTypeError(f"{allowed} (try {max(16, value + -value % 4)})")
    return value


side.metavar = "N"


def add_option(group, name, kind, default, help, shown=None, needed=()):
    """Add one option to a `group` of a parser; `shown` describes a default that follows from other options.

    Those whose names are `needed` are said to be so; it is up to the program to ask for them.
    """
    optional_value = {"nargs": "?", "const": True} if kind is boolean else {}
    shown = "needed" if name in needed else f"default: {shown or ('none' if default in (None, '') else default)}"
    group.add_argument(f"--{name}", type=kind, default=default, metavar=kind.metavar,
                       help=f"{help} ({shown})", **optional_value)


def at_least(least, most=math.inf):
    """A type for argparse: an integer from `least` to `most`."""
    def integer(text):
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is {f'less than {least}' if int(text) < least else 'too large'}")
        return int(text)
    return integer
