"""graph.py, trainer.py by tests/check_goldens.py: the port equals the original's numbers, and the check can fail."""
import subprocess
import sys

import numpy as np
import pytest

from check_goldens import relative
from conftest import HERE, scenario

GOLDEN = HERE / "golden"


def check(folder):
    """Run the program on the cases in a folder -> (exit status, its output)."""
    done = subprocess.run([sys.executable, str(HERE / "check_goldens.py"), str(folder)], cwd=HERE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("ours, golden, scale, wanted", [
    ([1, 2], [1, 2], None, 0), ([1.1, 2], [1, 2], None, .1), ([1, 1.8], [1, 2], None, .1), ([-1], [1], None, 2),
    ([0, 1], [0, 1], None, 0), ([], [], None, 0),
    ([1e-12, 1], [0, 1], None, np.inf), ([0], [1e-30], None, 1),        # where the golden is 0, so must ours be
    ([1e-3, 1], [0, 1], 1, 1e-3), ([1.5, 3], [1, 2], [5, 10], .1), ([1.5], [1], [0], np.inf),
    ([np.nan], [1], None, np.inf), ([np.nan], [np.nan], None, np.inf), ([1], [np.inf], None, np.inf)])
def test_relative(ours, golden, scale, wanted):
    """Differences where the scale is 0 count as infinite, or near to it: above every tolerance."""
    got = relative(ours, golden, scale)
    assert got > 1e200 if wanted == np.inf else got == pytest.approx(wanted)


@scenario
def right(tools):
    """`check` of the project's own goldens."""
    return check(GOLDEN)


@scenario
def wrong(tools):
    """`check` of one embedding that is off by 1e-3 of the largest, and a loss after the third step by 1e-2."""
    with np.load(GOLDEN / "B.npz", allow_pickle=False) as file:
        golden = dict(file)
    golden["embeddings"][1, 5] += 1e-3 * np.abs(golden["embeddings"]).max()
    golden["canon_pre/3/losses_in_run"][0] *= 1.01
    folder = tools.new_folder()
    np.savez(folder / "wrong.npz", **golden)
    return check(folder)


@pytest.mark.slow
def test_the_port_equals_the_original(right):
    status, output = right
    assert status == 0, output
    assert "A.npz: {'size': 108," in output and "3 of 3 cases within tolerance" in output
    for line in ("forward       images", "forward       grad G_inv", "after step 3  averages"):
        assert line in output, output


@pytest.mark.slow
def test_a_wrong_number_is_found(wrong):
    status, output = wrong
    above = [line.split()[:-2] for line in output.splitlines() if "ABOVE" in line]
    assert status == 1 and "0 of 1 cases within tolerance" in output, output
    assert [" ".join(words[:-1]) for words in above] == ["forward embeddings", "after step 3 losses"], output


@pytest.mark.slow
def test_a_folder_without_goldens_is_an_error(tmp_path):
    np.savez(tmp_path / "units.npz", nothing=1)
    status, output = check(tmp_path)
    assert status == 2 and "no golden cases" in output
