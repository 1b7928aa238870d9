"""The grammar of command lines: types of values, commands with their options, help, presets, and who wins.

Each of these layers wins over those before it: the defaults, what a run remembers, the preset, the command line.
"""
import argparse
import contextlib
import difflib
import errno
import math
import os
import re
import textwrap
from collections.abc import Callable
from typing import NamedTuple

from utils import one_line, PROJECT, read_json, UserError

PRESETS = os.path.join(PROJECT, "presets")
# Two spellings of one thing: a command that has one of them takes the other one too.
SYNONYMS = {"seed": "random_seed", "random_seed": "seed", "size": "input_scale_size", "input_scale_size": "size",
            "workers": "num_worker", "num_worker": "workers"}
WIDTH = 100                 # columns of a help text, on any terminal
MOST_WHOLE, MOST_NUMBER = 2 ** 31 - 1, 1e9          # of numbers for which nothing else sets a limit
MOST_NAME, MOST_PATH = 255, 4000                    # bytes of a name between slashes, and of a path
MOST_SHOWN = 300            # letters of a word in a message
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


# Types of values: functions from a word to a value, with the attribute `metavar`, that argparse takes

def checked(metavar, convert, valid, allowed):
    """Make a type of the words that `convert` accepts and whose values are `valid`.

    `convert` raises ValueError for a word that it can't convert. `allowed` says in a message which words are accepted.
    """
    def parse(word):
        with contextlib.suppress(ValueError):
            value = convert(word)
            if valid(value):
                return value
        raise argparse.ArgumentTypeError(f"{shown(word)}: must be {allowed}")

    parse.metavar = metavar
    return parse


def one_of(names, convert=str.lower):
    """Make a type of a few `names`, in any case."""
    return checked("{" + ",".join(names) + "}", convert, names.__contains__, "one of " + ", ".join(names))


def whole(least, most=MOST_WHOLE, unit=""):
    """Make a type of the whole numbers from `least` to `most`. `unit`, such as " of pixels", is for messages."""
    allowed = f"a whole number{unit}" + (f", {least} or more" if most == MOST_WHOLE else f" from {least} to {most}")
    return checked("N", _limited(int, MOST_WHOLE, most), lambda value: least <= value <= most, allowed)


def number(least=-math.inf, most=MOST_NUMBER, above=-math.inf, below=math.inf):
    """Make a type of the finite numbers from `least` to `most`, and `above` and `below` others."""
    limits = [f"above {above:g}" * (above > -math.inf), f"{least:g} or more" * (least > -math.inf),
              f"up to {most:g}" * (most < MOST_NUMBER), f"below {below:g}" * (below < math.inf)]
    return checked("X", _limited(float, MOST_NUMBER, most),
                   lambda value: math.isfinite(value) and least <= value <= most and above < value < below,
                   ", ".join(["a number", *filter(None, limits)]))


def _limited(convert, usual, most):
    """Make `convert`, from a word to a number, name the limit that a number is above, if that is `usual` or more.

    Messages tell a lower limit as a range.
    """
    def parse(word):
        value = convert(word)
        if usual <= most < value < math.inf:
            raise argparse.ArgumentTypeError(f"{word}: must be at most {most:.10g}")
        return value
    return parse


def shown(word):
    """Write a word for a message of one line: control characters by their codes, and of many letters the first."""
    plain = CONTROL.sub(lambda match: repr(match[0])[1:-1], word)
    return plain if len(plain) <= MOST_SHOWN else f"{plain[:MOST_SHOWN]}..."


def place(word):
    """Return `word` if a file or folder may be called so. Raises argparse.ArgumentTypeError if none can be."""
    names = os.fsencode(word).split(b"/")
    problem = ("must have no line ends and other control characters" if CONTROL.search(word) else
               "must not be blank" if word and not word.strip() else
               f"must have at most {MOST_NAME} bytes between two slashes" if max(map(len, names)) > MOST_NAME else
               f"must have at most {MOST_PATH} bytes" if len(os.fsencode(word)) > MOST_PATH else None)
    if problem:
        raise argparse.ArgumentTypeError(f"{shown(word)}: {problem}")
    return word


boolean = checked("BOOL", lambda word: BOOLEANS.get(word.lower()), lambda value: value is not None,
                  "true, false, 1, 0, yes or no")
text = checked("NAME", place, bool, "a name that is not empty")
path = checked("PATH", place, lambda value: True, "a path")


# Commands and their options

class Option(NamedTuple):
    """An option of a command, as help shows it."""
    name: str
    type: Callable                  # from a word to a value
    default: object
    help: str
    shown: str | None = None        # says what the default is where it follows from other options
    needed: bool = False
    values: object = None           # None: it takes one value; "+": one or more; a tuple: one for each of these names
    positional: bool = False

    @property
    def names(self):
        """List all spellings of the option on a command line."""
        return [f"--{name}" for name in (self.name, SYNONYMS.get(self.name)) if name]

    @property
    def usage(self):
        """Write the option with a placeholder for its value."""
        if self.positional:
            return f"{self.type.metavar} [{self.type.metavar} ...]"
        value = f"[{self.type.metavar}]" if self.type is boolean else self.type.metavar
        if isinstance(self.values, tuple):
            value = " ".join(self.values)
        elif self.values == "+":
            value += f" [{value} ...]"
        return ", ".join(f"{name} {value}" for name in self.names)

    @property
    def explanation(self):
        """Write what the option does, and its default."""
        if self.needed:
            return f"{self.help} (needed)"
        default = self.shown or ("none" if self.default in (None, "", []) else self.default)
        return f"{self.help} (default: {default})"


class Command(NamedTuple):
    """A program, or a sub-command of one, with all of its options."""
    program: str                    # such as "recognizer.py"
    name: str                       # of the sub-command, such as "train"; "" for a program without any
    purpose: str                    # what it does, in a sentence
    examples: tuple                 # command lines that run, without `python`
    groups: dict                    # {title: function that is given `add`, and calls it with the fields of each Option}
    resolve: Callable = lambda options, error: None     # fills in what follows; calls `error` with one line
    # Lists (run, {option: value}) of the runs that `options` name; a run "" is not told of in the log.
    remembered: Callable = lambda options: []
    legacy: tuple = ()              # names of old options that are accepted and ignored
    presets: bool = False           # whether there is an option --preset

    @property
    def full_name(self):
        """Name the command as a user types it: `recognizer.py train`."""
        return f"{self.program} {self.name}".rstrip()

    def options(self):
        """Collect the options of each group -> {title: list of Options}."""
        listed = {title: [] for title in self.groups}
        for title, add_options in self.groups.items():
            add_options(lambda *fields, group=listed[title], **more: group.append(Option(*fields, **more)))
        if self.presets:
            listed.setdefault("Mode", []).insert(0, Option(
                "preset", text, None, f"take the options of a file: {', '.join(preset_names(self))} (in presets/), or "
                "a path; options on the command line win"))
        return listed

    def by_name(self):
        """Collect all options -> {name: Option}."""
        return {option.name: option for options in self.options().values() for option in options}


class Parsed(NamedTuple):
    """What a command line says."""
    options: argparse.Namespace     # the resolved value of each option, a plain value that JSON can hold
    given: dict                     # {option: value} of what the command line or its preset gives
    legacy: list                    # the given options that are ignored
    notes: list                     # lines for the log: which values come from which run
    typed: dict                     # {option: value} of what stands on the command line itself


class Parser(argparse.ArgumentParser):
    """A parser of a Command that answers a mistake with one line on stderr and exit status 2."""

    def __init__(self, command):
        """Add the options of the Command. Those that the command line lacks get no value."""
        super().__init__(prog=command.program, allow_abbrev=False, exit_on_error=False)
        self._command = command
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")    # argparse's own takes -1e-3 for an option
        for option in command.by_name().values():
            names, more = option.names, {"dest": option.name}
            if option.positional:       # "*", for `parse` to say in its own words that none is given
                names, more = [option.name], {"nargs": "*"}
            elif option.type is boolean:
                more |= {"nargs": "?", "const": True}
            elif option.values:
                more |= {"nargs": len(option.values) if isinstance(option.values, tuple) else option.values}
            self.add_argument(*names, type=option.type, default=argparse.SUPPRESS, **more)
        for name in command.legacy:
            self.add_argument(f"--{name}", nargs="?", default=argparse.SUPPRESS)

    def format_help(self):
        """Write the help of the Command."""
        return help_of(self._command)

    def error(self, message):
        """End the program with a message of one line."""
        self.exit(2, f"{self.prog}: error: {one_line(' '.join(message.split()))}\n")

    def parse_args(self, args=None, namespace=None):
        """Parse `args` -> namespace. A word that is no known option ends the program; the closest option is named."""
        try:
            options, unknown = self.parse_known_args(args, namespace)
        except argparse.ArgumentError as problem:
            self.error(f"{(problem.argument_name or '').split('/')[0]} {problem.message}")      # without the synonym
        if not unknown:
            return options
        wrong = next((word for word in unknown if word.startswith("-")), "").split("=")[0]
        if not wrong:
            place = "; give all of them together" if any(
                option.positional for option in self._command.by_name().values()) else ""
            self.error(f"{unknown[0]}: no option takes this value{place}")
        known = [name for option in self._command.by_name().values() if not option.positional for name in option.names]
        close = difflib.get_close_matches(wrong, known, n=1)
        self.error(f"{wrong}: unknown option ({f'did you mean {close[0]}?' if close else '--help lists all'})")


def parse(command, arguments):
    """Read the words of a command line -> Parsed. A mistake ends the program: one line on stderr, exit status 2.

    Raises UserError when a preset, or the params.json of a run that is named, can't be read.
    """
    parser, known = Parser(command), command.by_name()
    typed = vars(parser.parse_args(arguments))
    legacy = [name for name in command.legacy if name in typed]
    typed = {name: value for name, value in typed.items() if name not in legacy}
    given = {**(read_preset(command, typed["preset"], typed) if "preset" in typed else {}), **typed}
    values, notes = {name: option.default for name, option in known.items()}, []
    for run, saved in command.remembered(argparse.Namespace(**{**values, **given})):
        recalled = converted(known, saved, run, given)
        changed = {name: value for name, value in recalled.items() if value != known[name].default}
        values.update(recalled)
        if changed and run:
            notes.append(f"{run}: its options are taken where none is given: {words(changed)}")
    options = argparse.Namespace(**{**values, **given})
    for name, option in known.items():
        if option.needed and not getattr(options, name):
            parser.error(f"{option.type.metavar if option.positional else f'--{name}'}: needed; --help tells more")
    command.resolve(options, parser.error)
    return Parsed(options, given, legacy, notes, typed)


def changed_options(command, options):
    """Find which of the resolved `options` differ from the defaults, resolved alike -> {option: value}."""
    defaults = argparse.Namespace(**{name: option.default for name, option in command.by_name().items()})
    command.resolve(defaults, lambda problem: None)         # the defaults alone may lack something that is needed
    return {name: value for name, value in vars(options).items()
            if value != getattr(defaults, name, None) and name != "dry_run"}


def choose(commands, arguments, default=None):
    """Find the sub-command that `arguments` begin with -> (Command, the other arguments).

    Without a sub-command it is the Command named `default`, if there is one. `--help` first prints an overview.
    A mistake ends the program: one line on stderr, exit status 2.
    """
    by_name, first = {command.name: command for command in commands}, arguments[0] if arguments else ""
    if first in by_name:
        return by_name[first], arguments[1:]
    if first in ("-h", "--help"):
        print(overview(commands), end="")
        raise SystemExit(0)
    named, names = first and not first.startswith("-"), ", ".join(by_name)
    if default and not named:
        return by_name[default], arguments
    Parser(commands[0]).error(f"{first}: no such command; give one of {names}" if named else
                              f"give a command: {names}; --help tells more")


# Presets, and values from files

def preset_names(command=None):
    """List the names of the presets in presets/: of all, or of those that have options of a Command."""
    names = sorted(name.removesuffix(".json") for name in os.listdir(PRESETS) if name.endswith(".json"))
    return [name for name in names if command is None or command.full_name in _read_sections(_preset_file(name))]


def _preset_file(name):
    """Tell the path of the preset `name`."""
    return os.path.join(PRESETS, f"{name}.json")


def _read_sections(file_name):
    """Read a preset's file -> what JSON holds. Raises OSError and ValueError."""
    return read_json(file_name)


def read_preset(command, name, given=()):
    """Read what a preset has for a Command, but for the options that are `given` -> {option: value}.

    `name` is that of a file {"main.py": {option: value, ...}, "recognizer.py train": ...} in presets/, or a path.
    Raises UserError when the file can't be read, or has a bad value.
    """
    file_name, known = _preset_file(name) if name in preset_names() else name, command.by_name()
    try:
        if os.path.exists(file_name) and not os.path.isfile(file_name):
            raise OSError(errno.EINVAL, "no file")
        sections = _read_sections(file_name)
    except OSError as error:
        raise UserError(f"--preset {name}: neither one of {', '.join(preset_names())} nor a file that can be read "
                        f"({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"--preset {file_name}: not JSON ({error}); mend it") from error
    section = sections.get(command.full_name) if isinstance(sections, dict) else None
    if not isinstance(section, dict):
        raise UserError(f"--preset {name}: has no options of {command.full_name}; "
                        f"add them to {file_name}, or leave it out")
    section = {option if option in known else SYNONYMS.get(option, option): value for option, value in section.items()}
    unknown = sorted(section.keys() - known.keys() | section.keys() & {"preset"})
    if unknown:
        raise UserError(f"--preset {file_name}: {command.full_name} has no option {unknown[0]}; correct the name")
    return converted(known, section, f"--preset {file_name}", given)


def converted(known, values, source, given=()):
    """Check the `values` {option: value} of a JSON file as if they were typed -> {option: value}.

    Only `known` options that are not `given` count. Raises UserError, which begins with `source`, for a bad value.
    """
    result = {}
    for name in [name for name in values if name in known and name not in given]:
        try:
            result[name] = _from_json(known[name], values[name])
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{source}: {name} {error}; correct it there, or give --{name}") from error
    return result


def _from_json(option, value):
    """Convert a JSON value as if it were typed. null stands for the default. Raises argparse.ArgumentTypeError."""
    if value is None:
        return option.default
    if isinstance(value, list) != bool(option.values) or any(
            isinstance(each, (list, dict)) for each in (value if option.values else [value])):
        raise argparse.ArgumentTypeError(f"{value}: must be {'a list' if option.values else 'one value'}")
    if isinstance(option.values, tuple) and len(value) != len(option.values):
        raise argparse.ArgumentTypeError(f"{value}: must be {len(option.values)} values")
    return [option.type(str(each)) for each in value] if option.values else option.type(str(value))


def words(values):
    """Write {option: value} as a user would type it."""
    return " ".join(f"--{name} {' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
                    for name, value in values.items())


# Help

def help_of(command):
    """Write the help of a Command: what it does, examples, and all options in their groups."""
    lines = [*textwrap.wrap(command.purpose, WIDTH), "", "Example:" if len(command.examples) == 1 else "Examples:",
             *(f"    python {example}" for example in command.examples)]
    for title, options in command.options().items():
        lines += ["", f"{title}:"]
        for option in options:
            lines.append(f"  {option.usage}")
            lines += textwrap.wrap(option.explanation, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6,
                                   break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def overview(commands):
    """Write the help of a program with sub-commands: what each of `commands` does, and its examples."""
    lines = ["{0} COMMAND [options]; `{0} COMMAND --help` lists the options of one.".format(commands[0].program)]
    for command in commands:
        lines += ["", *textwrap.wrap(f"{command.name}: {command.purpose}", WIDTH),
                  *(f"    python {example}" for example in command.examples)]
    return "\n".join(lines) + "\n"
