"""--xla and --profile in a training by the command line: what XLA fuses, and a trace that names it."""
import re

import pytest

from conftest import NAMES, NARROW, only_run, read_checkpoint, succeed

pytestmark = pytest.mark.slow
OPTIONS = dict(**NAMES, **NARROW, method_c="none", batch_size=2, max_step=7, log_step=7, num_log_id=1, num_log_samples=1)


def test_a_traced_training_with_xla_is_the_one_without(drawn, tmp_path):
    """Up to rounding. The trace holds three steps, numbered, and clusters that XLA compiled."""
    runs = {}
    for xla in (False, True):
        log_dir = tmp_path / f"xla_{xla}"
        succeed(**OPTIONS, data_dir=drawn, log_dir=log_dir, xla=xla, profile=tmp_path / f"trace_{xla}")
        runs[xla] = read_checkpoint(only_run(log_dir) / "model.ckpt-7")
    for name, value in runs[False].items():
        assert runs[True][name] == pytest.approx(value, rel=1e-3, abs=2e-4), name
    for xla in (False, True):
        trace, = tmp_path.glob(f"trace_{xla}/plugins/profile/*/*.xplane.pb")
        content = trace.read_bytes()
        assert (b"XlaRun" in content) == xla and b"step_num" in content and re.search(rb"Conv2D", content)
