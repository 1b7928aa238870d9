"""engine/profiling and engine/startup: --xla and --profile of main.py, what XLA fuses, and a trace that names it."""
import re

import pytest

from conftest import NAMES, NARROW, only_run, read_checkpoint, scenario, succeed

pytestmark = pytest.mark.long
OPTIONS = dict(**NAMES, **NARROW, method_c="none", batch_size=2, max_step=7, log_step=7, num_log_id=1,
               num_log_samples=1)


@scenario
def traced(tools):
    """{xla: (a training's run directory, folder of its trace)} without and with XLA."""
    folders = {xla: (tools.new_folder(), tools.new_folder()) for xla in (False, True)}
    for xla, (log_dir, trace) in folders.items():
        succeed(**OPTIONS, data_dir=tools.drawn, log_dir=log_dir, xla=xla, profile=trace)
    return {xla: (only_run(log_dir), trace) for xla, (log_dir, trace) in folders.items()}


def test_a_traced_training_with_xla_is_the_one_without(traced):
    """Up to rounding. The trace holds three steps, numbered, and clusters that XLA compiled."""
    runs = {xla: read_checkpoint(run_dir / "model.ckpt-7") for xla, (run_dir, _) in traced.items()}
    for name, value in runs[False].items():
        assert runs[True][name] == pytest.approx(value, rel=1e-3, abs=2e-4), name
    for xla, (_, folder) in traced.items():
        trace, = folder.glob("plugins/profile/*/*.xplane.pb")
        content = trace.read_bytes()
        assert (b"XlaRun" in content) == xla and b"step_num" in content and re.search(rb"Conv2D", content)
