"""benchmarks/gpu.py: what it refuses, keeps and leaves, its report, and how it reads traces and placed operations."""
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from benchmarks import gpu, gpu_data, gpu_parts, gpu_placement, gpu_report, gpu_trace
from benchmarks.gpu_cases import Case, cases_of, PARTS
from conftest import tree
from tool import call, ROOT, wait_for
from utils import UserError

tf1 = tf.compat.v1

FACTS = {"device": "a GPU", "quick": False, "commit": "abc", "code": "1"}


# What is refused

@pytest.mark.parametrize("arguments, named", [
    (["--device", "gpu"], ["--device gpu", "no GPU here", "--device cpu"]), ([], ["no GPU here"]),
    (["--device", "tpu"], ["--device tpu", "gpu, cpu"]), (["--parts", "steps,all"], ["steps,all", "device, start"]),
    (["--parts", ""], ["--parts"]), (["--minutes", "0", "--device", "cpu"], ["--minutes 0", "above 0"]),
    (["--device", "cpu", "--out", "theirs"], ["--out theirs", "others", "new folder"]),
    (["--device", "cpu", "--out", "theirs/file"], ["--out theirs/file"])])
def test_bad_input(tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "GPU_DEVICE", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", "")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").write_text("precious")
    before = tree(tmp_path)
    result = call(gpu, *arguments)
    lines = [line for line in result.err.splitlines() if ": error: " in line]
    assert result.status == 2 and len(lines) == 1, result.err
    assert all(word in lines[0] for word in named), lines[0]
    assert tree(tmp_path) == before


# What is measured, kept and left

@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Two cases of a part, and what measures them instead -> what runs the command, and a list of what it measured."""
    measured, answers = [], {}
    facts = dict(FACTS)
    cases = [Case("start", name, "start", {"number": 1}, 60) for name in ("one", "two")]

    def measure(case, options, limit):
        measured.append(case.name)
        return answers.get(case.name, {"result": {"cold s": 1.}})

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "cases_of", lambda parts, quick: cases)
    monkeypatch.setattr(gpu, "fingerprint", lambda options: facts)
    monkeypatch.setattr(gpu_report.Report, "_start", lambda self, part, found: [f"{len(found)} starts"])

    def run(*arguments):
        measured.clear()
        return call(gpu, "--device", "cpu", "--out", str(tmp_path / "out"), *arguments)
    return SimpleNamespace(run=run, measured=measured, answers=answers, facts=facts, cases=cases, out=tmp_path / "out")


def test_what_is_done_is_kept(fake):
    assert fake.run().status == 0 and fake.measured == ["one", "two"]
    again = fake.run()
    assert again.status == 0 and not fake.measured and "2 starts" in again.out
    assert json.loads((fake.out / "report.json").read_text())["results"][1]["name"] == "two"
    assert (fake.out / "report.txt").read_text() in again.out


def test_parts_are_measured_alone_and_told_together(fake, monkeypatch):
    fake.cases.append(Case("training", "", "training", {}, 60))
    assert fake.run("--parts", "start").status == 0 and fake.measured == ["one", "two"]
    result = fake.run("--parts", "training, device")
    assert fake.measured == [""] and "2 starts" in result.out and "A training on drawn people" in result.out


@pytest.mark.parametrize("change, measured", [
    (lambda fake: fake.facts.update(commit="other"), ["one", "two"]),
    (lambda fake: fake.facts.update(device="another GPU"), ["one", "two"]),
    (lambda fake: fake.cases[1].settings.update(number=2), ["two"]),
    (lambda fake: (fake.out / "cases/start-one.json").write_text("{"), ["one"]),
    (lambda fake: (fake.out / "cases/start-one.json").unlink(), ["one"])])
def test_what_has_changed_is_measured_anew(fake, change, measured):
    fake.run()
    fake.cases[1] = fake.cases[1]._replace(settings=dict(fake.cases[1].settings))
    change(fake)
    assert fake.run().status == 0 and fake.measured == measured


def test_a_case_that_fails_is_a_line_and_is_tried_again(fake):
    fake.answers["one"] = {"failed": "no luck (status 1)"}
    result = fake.run()
    assert result.status == 1 and fake.measured == ["one", "two"]
    assert "FAIL  start one: no luck (status 1)" in result.out and "1 starts" in result.out
    del fake.answers["one"]
    assert fake.run().status == 0 and fake.measured == ["one"]


def test_what_there_is_no_time_for_is_left(fake):
    result = fake.run("--minutes", ".01")
    assert result.status == 0 and not fake.measured and "Not measured yet: 2 cases" in result.out
    assert fake.run().status == 0 and fake.measured == ["one", "two"]


def test_a_case_that_time_runs_out_for_is_left(fake, monkeypatch):
    """Its limit is 60 seconds, of which 12 are left."""
    now, measure = [0.], gpu.measure

    def measure_for_long(case, options, limit):
        now[0] += 12 if case.name == "two" else 0
        return measure(case, options, limit)

    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "measure", measure_for_long)
    fake.answers["two"] = {"failed": "not done in 12 s"}
    result = fake.run("--minutes", ".2")
    assert result.status == 0 and fake.measured == ["one", "two"] and "FAIL" not in result.out
    assert "Not measured yet: 1 cases" in result.out and "no time is left for it" in result.err


def test_without_a_gpu_that_tensorflow_sees_it_ends_at_once(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "GPU_DEVICE", str(tmp_path))
    fake.cases.insert(0, Case("device", "", "device", {}, 60))
    fake.answers[""] = {"failed": "TensorFlow finds no GPU"}
    result = fake.run("--device", "gpu")
    assert result.status == 2 and fake.measured == [""] and "error: --device gpu: TensorFlow finds no GPU" in result.err


def measure(folder, kind, limit=60):
    """What comes of a case of this kind, in a process of its own."""
    options = SimpleNamespace(out=str(folder), device="cpu")
    return gpu.measure(Case("part", "a case", kind, {}, limit), options, limit)


def test_the_last_line_of_a_process_that_fails_is_told(tmp_path):
    assert measure(tmp_path, "nonsense") == {"failed": "KeyError: 'nonsense' (status 1)"}
    assert "Traceback" in (tmp_path / "logs/part-a-case.txt").read_text()


def test_a_process_that_hangs_is_ended(tmp_path):
    began = time.monotonic()
    assert measure(tmp_path, "device", .2) == {"failed": "not done in 0 s"} and time.monotonic() - began < 20


@pytest.mark.slow
def test_ctrl_c_ends_at_once_and_leaves_what_is_done(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, ROOT / "benchmarks/gpu.py", "--device", "cpu", "--quick", "--out", out,
                           "--parts", "device,start"], stderr=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE) as process:
        wait_for(lambda: (out / "asked/start.json").exists())
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in words
    assert os.listdir(out / "cases") == ["device.json"] and (out / "report.txt").exists()


# What a process measures

def test_no_gpu_is_found_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    place = gpu_parts.Place(True, str(tmp_path))
    with pytest.raises(UserError, match=r"finds no GPU; docs/troubleshooting.md"):
        gpu_parts.device(place)
    assert place.memory() == {} and gpu_parts.Place(False, "").memory()["peak GiB"] > .05


@pytest.mark.parametrize("said, held", [("1234 MiB", {"held GiB": 1234 / 1024}), ("[N/A]", {}), (None, {})])
def test_what_the_driver_says_of_memory(tmp_path, monkeypatch, said, held):
    monkeypatch.setattr(gpu_data, "ask_driver", lambda *what: [said] if said else [])
    assert gpu_parts.Place(True, str(tmp_path)).memory() == held


def test_what_the_driver_says_is_read_by_lines(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n[ $1 = --query-gpu=name,driver_version ] && printf 'A GPU, 570.1\\nB, 570.1\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpu_data.ask_driver("name", "driver_version") == ["A GPU, 570.1", "B, 570.1"]
    assert gpu_data.ask_driver("nonsense") == []


@pytest.mark.parametrize("error, status, printed", [
    (tf.errors.ResourceExhaustedError(None, None, "OOM"), 0, {"out of memory": "ResourceExhaustedError"}),
    (MemoryError(), 0, {"out of memory": "MemoryError"}), (UserError("what to do"), 2, None)])
def test_want_of_memory_is_a_result(tmp_path, monkeypatch, capsys, error, status, printed):
    def measure(place):
        raise error

    monkeypatch.setitem(gpu_parts.KINDS, "device", measure)
    (tmp_path / "case.json").write_text(json.dumps({"kind": "device", "settings": {}, "gpu": True, "folder": "."}))
    assert gpu_parts.main(str(tmp_path / "case.json")) == status
    said = capsys.readouterr()
    assert json.loads(said.out) == printed if printed else (said.out, said.err) == ("", "what to do\n")


# The list of cases

@pytest.mark.parametrize("quick", [False, True])
def test_every_part_has_cases_with_names_of_their_own(quick):
    cases = cases_of(PARTS, quick)
    assert {case.part for case in cases} == PARTS.keys() and len({case.key for case in cases}) == len(cases)
    assert cases_of(["steps", "device"], quick) == [case for case in cases if case.part in ("steps", "device")]


def test_steps_are_measured_in_all_combinations():
    found = [tuple(case.settings["options"][name] for name in ("input_scale_size", "batch_size", "precision", "xla"))
             for case in cases_of(["steps"], False)]
    assert len(set(found)) == len(found) == 2 * 3 * 3 * 2
    assert {size for size, *_ in found} == {64, 108} and {batch for _, batch, *_ in found} == {16, 64, 256}


# The report

def report(results):
    """The report of {(part, name): result}."""
    return gpu_report.Report(FACTS, [], {key: {"result": result} for key, result in results.items()})


def test_a_table_tells_where_memory_ended():
    fast = {"seconds": .0125, "images/s": 1280., "with input s": .5, "peak GiB": 3.25}
    text = report({("steps", "64, 16, float32"): fast, ("steps", "64, 16, bfloat16, XLA"): {"out of memory": "E"},
                   ("steps", "108, 256, float32"): {"out of memory": "E"}}).text().splitlines()
    rows = [line.split() for line in text if line.strip().startswith(("64, 16", "108, 256"))]
    assert rows[0] == ["64,", "16", "12.5", "-", "-", "-", "-", "no", "memory"]
    assert rows[1] == ["108,", "256", "no", "memory", "-", "-", "-", "-", "-"]
    assert [row[2] for row in rows[::2]] == ["12.5", "1280", "500.0", "3.25"]


@pytest.mark.parametrize("results, holds, words", [
    ({("goldens", "float32"): {"forward, losses": 1e-3}}, [True], "float32: the original's numbers are kept"),
    ({("goldens", "float32"): {"forward, losses": 1.1e-3}}, [False], "not: forward, losses 1.1e-03 (at most 0.001)"),
    ({("goldens", "tf32"): {"forward, losses": 1.1e-3}}, [True], "tf32"),
    ({("goldens", "tf32"): {"after step 3, variables": float("nan")}}, [False], "variables nan"),
    ({("placement", "step"): {"fell back": {"Roll": list("abcd")}, "no kernel for a GPU": {}, "host": {},
                              "operations": 5, "on device": 1}}, [False, True], "not: 4 Roll (a, b, c, ...)"),
    ({("placement", "step"): {"fell back": {}, "no kernel for a GPU": {"Roll": ["a"]}, "host": {"why": {"X": 2}},
                              "operations": 5, "on device": 3}}, [True, False], "not: 1 Roll (a)")])
def test_checks(results, holds, words):
    found = report(results)
    assert [check[0] for check in found.checks] == holds and words in " ".join(found.text().split())
    assert found.is_well is all(holds)


@pytest.mark.parametrize("kind, digest, well", [("deterministic", "a", True), ("deterministic", "b", False),
                                                ("free", "a", True), ("free", "b", True)])
def test_runs_are_compared_bit_for_bit(kind, digest, well):
    found = report({("determinism", f"{kind}, {role}"): {"digest": each, "seconds": 1.} for role, each in (
        ("first", "a"), ("again", "a"), ("resumed", digest))})
    assert found.is_well is well and [holds for holds, _ in found.checks] == [True, well]
    assert ("differs from" in found.text()) == (digest == "b")


def test_the_cost_of_determinism():
    text = report({("determinism", f"{kind}, first"): {"digest": "a", "seconds": seconds}
                   for kind, seconds in (("deterministic", 1.25), ("free", 1.))}).text()
    assert "determinism costs 25.0 % of a step" in text


# A trace

def space(lines):
    """An XSpace of {(plane, line): [(name, start, end)]} in microseconds."""
    found, planes = XSpace(), {}
    for number, ((plane_name, line_name), events) in enumerate(lines.items()):
        plane = planes.setdefault(plane_name, None) or found.planes.add(name=plane_name)
        planes[plane_name] = plane
        line = plane.lines.add(name=line_name, timestamp_ns=1000)
        for place, (name, start, end) in enumerate(events):
            key = 100 * number + place
            plane.event_metadata[key].name = name
            line.events.add(metadata_id=key, offset_ps=start * 10 ** 6, duration_ps=(end - start) * 10 ** 6)
    return found


HOST = ("/host:CPU", "python"), [("train", 0, 100), ("train", 200, 300), ("SessionRun", 1, 99)]


def test_gaps_are_the_time_in_which_no_kernel_of_a_gpu_runs():
    """Kernels of two streams that overlap count once, copies do not, nor what runs between steps."""
    found = gpu_trace.summarize(space(dict([HOST, (
        ("/device:GPU:0", "Stream #1"),
        [("conv", 10, 30), ("conv", 40, 60), ("MemcpyH2D", 60, 90), ("conv", 120, 180)]),
        (("/device:GPU:0", "Stream #2"), [("sum", 20, 50), ("sum", 210, 220)]),
        (("/device:GPU:0", "Steps"), [("1", 0, 100)])])), gpu=True)
    assert found["idle"] == pytest.approx(1 - 60 / 200) and found["ms a step"] == pytest.approx(.1)
    assert found["kernels"] == [["conv", .02, 1.], ["sum", .02, 1.]] and found["kernels a step"] == 2


def test_operations_of_a_cpu_are_told_by_their_types():
    found = gpu_trace.summarize(space(dict([HOST, (
        ("/host:CPU", "tf_Compute/1"), [("a/b:MatMul", 0, 50), ("c:MatMul", 250, 300), ("Executor::Run", 0, 90)]),
        (("/host:CPU", "tf_data_private/1"), [("decode:Cast", 0, 100)])])), gpu=False)
    assert found["kernels"] == [["MatMul", .05, 1.]] and found["idle"] == pytest.approx(.5)


@pytest.mark.parametrize("lines, named", [
    ({("/host:CPU", "python"): [("SessionRun", 0, 1)]}, "no steps"),
    (dict([HOST]), "no kernels.*may this user profile")])
def test_a_trace_that_tells_nothing_is_refused(lines, named):
    with pytest.raises(ValueError, match=named):
        gpu_trace.summarize(space(lines), gpu=True)


# Placed operations

def node(op, device, **types):
    """The NodeDef of an operation on a device, "CPU" or "GPU", with attributes that are types."""
    found = NodeDef(op=op, name=f"{op}_{device}", device=f"/job:localhost/replica:0/task:0/device:{device}:0")
    for name, kind in types.items():
        found.attr[name].type = getattr(types_pb2, f"DT_{kind.upper()}")
    return found


def test_what_falls_back_is_told_from_what_belongs_on_the_host():
    found = gpu_placement.sort_out([
        node("MatMul", "GPU", T="float"), node("MatMul", "CPU", T="float"), node("IteratorGetNext", "CPU"),
        node("AddV2", "CPU", T="int32"), node("Cast", "CPU", SrcT="int32", DstT="float"),
        node("_Send", "CPU", T="float"),
        node("Const", "CPU", dtype="int32"), node("Const", "CPU", dtype="float"),
        node("MergeSummary", "CPU"), node("VarHandleOp", "CPU", dtype="float")], "GPU")
    assert found["on device"] == 1
    assert found["fell back"] == {"MatMul": ["MatMul_CPU"], "Cast": ["Cast_CPU"], "Const": ["Const_CPU"],
                                  "VarHandleOp": ["VarHandleOp_CPU"]}
    assert found["host"] == {
        gpu_placement.READS_IMAGES: {"IteratorGetNext": 1}, gpu_placement.COUNTS: {"AddV2": 1},
        gpu_placement.FEEDS: {"_Send": 1, "Const": 1}, gpu_placement.TELLS: {"MergeSummary": 1}}


def test_what_only_waits_for_another_device_has_a_reason_to_be_on_the_host():
    """Two CPUs stand for a host and a GPU: TensorFlow cuts a graph between any two devices in the same way."""
    with tf.Graph().as_default():
        with tf.device("CPU:1"):
            variable = tf1.get_variable("variable", [2], initializer=tf1.zeros_initializer(), use_resource=True)
            changed = tf1.assign_add(variable, [1., 1.])
        with tf.device("CPU:0"), tf.control_dependencies([changed]):
            after = tf1.placeholder_with_default(2., []) * 3
        with tf1.Session(config=tf1.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(variable.initializer)
            nodes = gpu_placement.nodes_of(gpu_placement.run_with_metadata(session, after, {}))
    reasons = [gpu_placement.host_reason(each) for each in nodes if each.op == "Identity"]
    assert reasons == [gpu_placement.WAITS]
    inlined = node("Identity", "CPU", T="float")
    for inlined.name in ("Identity", "map/while/body/_1/input/_59"):
        inlined.input[:] = ["map/while/body/_1/x/_3"]
        assert gpu_placement.host_reason(inlined) is None


@pytest.mark.parametrize("op, types, there", [
    ("MatMul", dict(T="float"), True), ("MatMul", dict(T="int32"), False), ("DecodeJpeg", {}, False),
    ("Add", dict(T="string"), False), ("Bucketize", dict(T="float"), True), ("EditDistance", dict(T="float"), False),
    ("Identity", dict(T="float"), True), ("NoSuchOperation", {}, False)])
def test_the_registry_knows_kernels_for_gpus_by_the_types_of_their_numbers(op, types, there):
    assert gpu_placement.has_gpu_kernel(node(op, "CPU", **types)) is there


# All of it

@pytest.mark.long
def test_every_part_runs_on_a_cpu(tmp_path):
    """As narrow as can be; what a GPU would do else is only to be seen on one."""
    out = tmp_path / "report"
    done = subprocess.run([sys.executable, ROOT / "benchmarks/gpu.py", "--device", "cpu", "--quick", "--out", out],
                          capture_output=True, text=True)
    found = json.loads((out / "report.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert {record["part"] for record in found["results"]} == PARTS.keys() and not found["left"]
    checks = {check["check"]: check["holds"] for check in found["checks"]}
    assert len(checks) == 15 and all(checks.values()), checks
    results = {(record["part"], record["name"]): record["result"] for record in found["results"]}
    assert results["profile", "16"]["kernels"] and results["training", ""]["steps"] > 0
    assert (out / "training.png").stat().st_size > 1000
    assert "Milliseconds of a training step" in done.stdout and str(out / "report.txt") in done.stdout
