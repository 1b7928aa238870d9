"""Write docs/options.md from the commands' own help and from presets/: python docs/write_options.py"""
import importlib
import json
import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
OUTPUT = os.path.join(FOLDER, "options.md")
PROGRAMS = "main", "gen_syn_latent", "align", "recognizer", "evaluate"
INTRODUCTION = """# Options

This page is what `--help` of each command prints. `make docs` writes it, so edit the commands and not this page.

Every command takes options in the same way:

- Give a value after a blank or after `=`: `--max_step 2000` or `--max_step=2000`.
- BOOL is true, false, 1, 0, yes or no. A bare `--generate_dataset` means True.
- A typo or a bad value is an error of one line, which tells the closest name or what is allowed. The exit status is 2.
- Two spellings of one thing are both taken everywhere: `--seed` and `--random_seed`, `--size` and `--input_scale_size`,
  `--workers` and `--num_worker`.
- A run remembers its options in `params.json`. Whoever names the run need not repeat them.
- The command line wins over a preset, a preset over what a run remembers, and that over the defaults.
"""


def commands_of(program):
    """The cli.options.Commands of a program's module."""
    module = importlib.import_module(program)
    return getattr(module, "COMMANDS", None) or [module.COMMAND]


def text():
    """The whole of docs/options.md."""
    from cli.options import help_of, overview

    programs = [commands_of(program) for program in PROGRAMS]
    lines = [INTRODUCTION, "Contents:", ""]
    sections = []
    for commands in programs:
        if len(commands) > 1:
            sections.append((commands[0].program, overview(commands)))
        sections += [(command.full_name, help_of(command)) for command in commands]
    lines += [f"- [{title}](#{anchor(title)})" for title, _ in sections] + ["- [presets](#presets)"]
    for title, help_text in sections:
        lines += ["", f"## {title}", "", "```text", help_text.rstrip(), "```"]
    return "\n".join([*lines, "", *presets(), ""])


def anchor(title):
    """The anchor that GitHub gives to a heading."""
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def presets():
    """The lines of the section about the files in presets/."""
    from cli.options import preset_names, PRESETS, words

    lines = ["## presets", "", "`--preset NAME` stands for these options. `--preset FILE` takes a file of your own."]
    for name in preset_names():
        with open(os.path.join(PRESETS, f"{name}.json"), encoding="utf-8") as file:
            sections = json.load(file)
        lines += ["", f"`{name}`: {sections.pop('about')}", ""]
        lines += [f"- `{command}`: `{words(options)}`" for command, options in sections.items()]
    return lines


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(FOLDER))
    from utils import atomic_write

    with atomic_write(OUTPUT) as page:
        page.write(text().encode())
