"""The data of quality.py: made once, divided into what is trained on and what is held out."""
import contextlib
import ctypes
import fcntl
import functools
import os
import platform
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

import utils
from cli import outputs, places
from datasets.image_sets import find_pairs, find_photos, find_renderings, subset
from datasets.images import load_image, read_picture, save_image, stem
from datasets.selection import place
from utils import SETTINGS, UserError

PHOTOS, DRAWN = DOMAINS = "faces108", "drawn"
SIZES = {PHOTOS: 64, DRAWN: 48}                 # usual side in pixels
PEOPLE, IDENTITIES = 1 / 5, 1 / 3               # shares of the photos' people and of the renderings that are held out
# Of --domain drawn: with the held-out third and fifth taken away, 80 identities and 1,000 photos are left to train on.
DRAWN_IDENTITIES, DRAWN_EACH, DRAWN_PHOTOS, DRAWN_PAIRS = 120, 8, 1250, 300
PR_SET_PDEATHSIG = 1        # of <linux/prctl.h>


class Split(NamedTuple):
    """The folders of a data set that was divided."""
    training: str           # has real, syn and paired, as main.py reads them
    judged: str             # has, at the size of the training, the three folders below

    @property
    def renderings(self):
        """Name the folder of held-out renderings."""
        return os.path.join(self.judged, "renderings")

    @property
    def people(self):
        """Name the folder of photos of people whom no generator sees: what sets are compared with."""
        return os.path.join(self.judged, "people")

    @property
    def seen(self):
        """Name the folder of the photos that are trained on."""
        return os.path.join(self.judged, "seen")


def check(domain, photos_root, out):
    """Raise UserError unless `photos_root`, a folder, has what the domain needs: real, syn and paired with 3dmm.

    The folder `out` must not lie in it, nor in what its parts link to.
    """
    if domain == DRAWN:
        if photos_root:
            raise UserError("--photos_root: has no use with --domain drawn, which draws its photos; leave it out")
        return
    if not photos_root:
        raise UserError(f"--photos_root: needed with --domain {domain}: a folder with real/PERSON, syn/IDENTITY, "
                        "paired and paired/3dmm")
    parts = ("real", "syn", "paired", os.path.join("paired", "3dmm"))
    places.check_folders({f"--photos_root {photos_root}": photos_root,
                          **{f"--photos_root: {os.path.join(photos_root, part)}": os.path.join(photos_root, part)
                             for part in parts}})
    outputs.check_apart("--out", out, {f"--photos_root {photos_root}": photos_root,
                                       **{os.path.join(photos_root, part): os.path.join(photos_root, part)
                                          for part in parts}}, holding=False)


def make(out, domain, size, photos_root=""):
    """Divide the images of a domain, unless that is done -> Split.

    Raises UserError where the folder has images that were divided with other settings.
    """
    folder = os.path.join(out, "data", f"{domain}_{size}")
    settings = {"domain": domain, "size": size, "photos_root": photos_root and os.path.realpath(photos_root),
                "held_out": [PEOPLE, IDENTITIES]}
    split = Split(os.path.join(folder, "training"), os.path.join(folder, "judged"))
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with waiting_for(f"{folder}.lock"):
        if os.path.isdir(folder):
            if utils.load_json(os.path.join(folder, SETTINGS), None) != settings:
                raise UserError(f"{folder}: made from other photos, or with other settings; give the same, or another "
                                "--out")
            return split
        root = photos_root or _draw(f"{folder}.drawn", size)
        new = f"{folder}.new"
        shutil.rmtree(new, ignore_errors=True)                  # what a kill has left of our own
        _divide(root, Split(os.path.join(new, "training"), os.path.join(new, "judged")), size)
        utils.save_json(settings, os.path.join(new, SETTINGS))
        os.rename(new, folder)
    return split


@contextlib.contextmanager
def waiting_for(path):
    """Hold the file `path` against other processes in this context, after those that hold it now."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_with_us():
    """Make what a child has to call before it runs a program: Linux sends it SIGTERM if this process is killed."""
    return functools.partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGTERM)


def cpu_name():
    """Name the machine's processor."""
    with contextlib.suppress(OSError):
        for line in utils.read_text("/proc/cpuinfo").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _draw(folder, size):
    """Render and draw the people of the demo, more of them -> folder with real, syn and paired."""
    program = [sys.executable, os.path.join(utils.PROJECT, "gen_syn_latent.py")]
    usual = ["--preset", "demo", "--size", str(size)]
    for words in (["people", *usual, "--n_id", str(DRAWN_IDENTITIES), "--n_im", str(DRAWN_EACH),
                   "--output", os.path.join(folder, "syn")],
                  ["drawn", *usual, "--photos", str(DRAWN_PHOTOS), "--pairs", str(DRAWN_PAIRS), "--output", folder]):
        done = subprocess.run(program + words, preexec_fn=end_with_us())
        if done.returncode:
            raise UserError(f"gen_syn_latent.py {words[0]} ended with status {done.returncode}; its message stands "
                            "above")
    return folder


def _divide(root, split, size):
    """Divide the images in `root` into the folders of a Split."""
    real, syn = (find_renderings(os.path.join(root, name)) for name in ("real", "syn"))
    seen, people = divided(real, PEOPLE)
    taught, renderings = divided(syn, IDENTITIES)
    _link(seen, os.path.join(split.training, "real"))
    _link(taught, os.path.join(split.training, "syn"))
    pairs = find_pairs(os.path.join(root, "paired"))
    secret = {utils.sha256_of(os.path.join(people.root, name)) for name in people.names}
    pairs = subset(pairs, [i for i, name in enumerate(pairs.photos.names)
                           if utils.sha256_of(os.path.join(pairs.photos.root, name)) not in secret])
    _link(pairs.photos, os.path.join(split.training, "paired"))
    _link(pairs.renderings, os.path.join(split.training, "paired", "3dmm"))
    for images, folder in ((renderings, split.renderings), (people, split.people), (seen, split.seen)):
        _resize(images, folder, size)


def divided(images, share):
    """Hold out the last `share` of the identities of Renderings, in natural order -> two Renderings.

    Raises UserError where fewer than two identities are left on a side.
    """
    count = len(images.identities)
    first = count - round(share * count)
    if min(first, count - first) < 2:
        raise UserError(f"{images.root}: {count} identities are too few to hold out {share:.0%} of them")
    return tuple(subset(images, [i for i, label in enumerate(images.labels) if (label < first) == kept])
                 for kept in (True, False))


def _link(images, folder):
    """Give the images of a set a second name in `folder`; copy them where that is not possible."""
    for name in images.names:
        target = os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        place(os.path.join(images.root, name), target)


def _resize(images, folder, size):
    """Write the images of a set at `size`, without loss. What has that size is linked."""
    for name in images.names:
        source, target = os.path.join(images.root, name), os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if read_picture(source).size == (size, size):
            place(source, target)
        else:
            save_image(load_image(source, size), f"{stem(target)}.png")


def count(split):
    """Count what a Split has -> {name: number of images}."""
    parts = {"training photos": "real", "training renderings": "syn"}
    counts = {name: len(find_photos(os.path.join(split.training, part)).names) for name, part in parts.items()}
    counts["pairs"] = len(find_pairs(os.path.join(split.training, "paired")).photos.names)
    return counts | {"held-out renderings": len(find_photos(split.renderings).names),
                     "held-out photos": len(find_photos(split.people).names)}
