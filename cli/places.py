"""Check what a command line names before work starts: folders and files that are read, files that are written."""
import errno
import os

import utils
from cli.options import MOST_NAME
from utils import UserError


def folder_problem(path):
    """Say why no folder can be read at `path`, in a few words; None where one can."""
    problem = _problem(path)
    if problem:
        return problem
    if not os.path.isdir(path):
        return "a file, and no folder"
    return None if os.access(path, os.R_OK | os.X_OK) else "can't be read (no permission)"


def file_problem(path):
    """Say why no file can be read at `path`, in a few words; None where one can."""
    problem = _problem(path)
    if problem:
        return problem
    if os.path.isdir(path):
        return "a folder, and no file"
    if not os.path.isfile(path):
        return "a device or a pipe, and no file"
    return None if os.access(path, os.R_OK) else "can't be read (no permission)"


def _problem(path):
    """Say why nothing is there at `path`; None where something is."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return "a link to nothing" if os.path.islink(path) else "not there"
        return "a link to itself" if error.errno == errno.ELOOP else error.strerror
    return None


def check_folders(folders):
    """Raise UserError unless each of `folders`, {what a user typed: path}, can be read. An empty path stands for none.

    What a user typed is such as "--input photos".
    """
    for typed, path in folders.items():
        problem = folder_problem(path) if path else None
        if problem:
            raise UserError(f"{typed}: {problem}; name a folder that can be read")


def check_files(files):
    """Raise UserError unless each of `files`, {what a user typed: path}, can be read. An empty path stands for none."""
    for typed, path in files.items():
        problem = file_problem(path) if path else None
        if problem:
            raise UserError(f"{typed}: {problem}; name a file that can be read")


def check_written(typed, paths):
    """Raise UserError where one of the files `paths` can't be written. Nothing is created.

    Folders that are not there yet can be made. `typed` is what a user typed, such as "--output curves.png".
    """
    for path in paths:
        folder, name = os.path.split(os.path.abspath(path))
        if os.path.isdir(path):
            raise UserError(f"{typed}: {'' if typed.endswith(path) else f'{name} there is '}a folder, and no file; "
                            "name another")
        try:
            utils.check_writable(folder)
        except OSError as error:
            raise UserError(f"{typed}: can't write there ({error.strerror}); name another place") from error
        if len(os.fsencode(name)) > MOST_NAME:
            raise UserError(f"{typed}: its name is too long; name another")
