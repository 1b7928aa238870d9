"""Tell on a machine with a GPU whether everything is right, and how fast it is.

    python benchmarks/gpu.py --out gpu_report               # or: make gpu-check
    python benchmarks/gpu.py --device cpu --quick           # runs the code of every part on a CPU, and measures nothing

The same command goes on where it was stopped, and measures anew what has changed since. benchmarks/README.md tells what
is written; gpu_cases.py what is measured, and how long that takes.
"""
import contextlib
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import utils
from benchmarks import gpu_data, gpu_report, quality_data
from benchmarks.gpu_cases import cases_of, PARTS
from cli import places, program
from cli.options import boolean, checked, Command, number, one_of, parse, text
from engine import runs
from engine.startup import GPU_DEVICE
from utils import SETTINGS, UserError

OURS = {"program": "gpu.py"}            # what settings.json says in a folder of ours
COMPILED = str(4 * 2 ** 30)             # bytes: the most that CUDA_CACHE_MAXSIZE allows
LEAST = 10                              # seconds: with less left, no case is begun

parts = checked("LIST", lambda word: [part for part in word.lower().replace(" ", "").split(",") if part],
                lambda chosen: bool(chosen) and set(chosen) <= PARTS.keys(),
                f"some of {', '.join(PARTS)}, with commas between them")


def _what(add):
    """Add the options that say what is measured."""
    add("out", text, "gpu_report", "folder to write to")
    add("device", one_of(("gpu", "cpu")), "gpu", "what to measure: the first GPU, or the CPU")
    add("parts", parts, list(PARTS), "what to measure, with commas between: see benchmarks/README.md", "all")
    add("minutes", number(above=0), 25., "minutes after which no more is measured; the same command does the rest")
    add("quick", boolean, False, "narrow networks, and a few steps of each: to run all code, not to measure")


COMMAND = Command("gpu.py", "", "Tell on a machine with a GPU whether everything is right, and how fast it is.",
                  ("benchmarks/gpu.py --out gpu_report", "benchmarks/gpu.py --device cpu --quick"),
                  {"What": _what})


def check(options):
    """Raise UserError where there is no GPU to measure, or the folder holds something else."""
    if options.device == "gpu" and not (os.path.exists(GPU_DEVICE) or shutil.which("nvidia-smi")):
        raise UserError(f"--device gpu: no GPU here, as neither {GPU_DEVICE} nor nvidia-smi is there; install NVIDIA's "
                        "driver, or give --device cpu")
    places.check_written(f"--out {options.out}", [os.path.join(options.out, gpu_report.TEXT)])
    there = os.listdir(options.out) if os.path.isdir(options.out) else []
    if any(not name.startswith(".") for name in there) and utils.load_json(
            os.path.join(options.out, SETTINGS), None) != OURS:
        raise UserError(f"--out {options.out}: holds files of others; name a new folder")


def fingerprint(options):
    """Tell what a result depends on besides the settings of its case: the device, and our code."""
    total = hashlib.sha256(runs.digest_of_program().encode())
    for path in sorted(glob.glob(os.path.join(glob.escape(utils.PROJECT), "benchmarks", "*.py"))):
        total.update(utils.sha256_of(path).encode())
    device = gpu_data.ask_driver("name", "driver_version") if options.device == "gpu" else [quality_data.cpu_name()]
    return {"device": (device or ["GPU"])[0], "quick": options.quick,
            "commit": utils.git("describe", "--always", "--dirty") or "",
            "code": total.hexdigest()}


class Results:
    """The results in a folder: a file for each case, and the report of them all."""

    def __init__(self, folder, cases, facts):
        """Take the folder, the list of Cases, and `fingerprint`."""
        self.folder, self.cases, self._facts = folder, cases, facts
        self.records = {}
        for case in cases:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):       # damaged, or not there
                record = utils.read_json(self._path(case))
                if record["fingerprint"] == self._fingerprint(case) and "result" in record:
                    self.records[case.key] = record

    def _path(self, case):
        """Name the file of a Case."""
        name = re.sub(r"\W+", "-", f"{case.part} {case.name}").strip("-")
        return os.path.join(self.folder, "cases", f"{name}.json")

    def _fingerprint(self, case):
        return {**self._facts, "settings": json.loads(json.dumps(case.settings))}

    def keep(self, case, found, seconds):
        """Write what was found in a Case, {"result": ...} or {"failed": why}, and the report."""
        record = {"part": case.part, "name": case.name, "fingerprint": self._fingerprint(case), "seconds": seconds,
                  "finished": time.strftime("%Y-%m-%d %H:%M:%S"), **found}
        self.records[case.key] = record
        os.makedirs(os.path.join(self.folder, "cases"), exist_ok=True)
        utils.save_json(record, self._path(case))
        self.write()

    def write(self):
        """Write report.json and report.txt -> gpu_report.Report."""
        report = gpu_report.Report(self._facts, self.cases, self.records)
        utils.save_json(report.as_json(), os.path.join(self.folder, gpu_report.JSON))
        with utils.atomic_write(os.path.join(self.folder, gpu_report.TEXT)) as file:
            file.write(report.text().encode())
        return report


def measure(case, options, limit):
    """Measure a Case in a process of its own, for so many seconds at most -> {"result": ...} or {"failed": why}."""
    names = [os.path.join(options.out, folder, re.sub(r"\W+", "-", f"{case.part} {case.name}").strip("-") + ending)
             for folder, ending in (("asked", ".json"), ("logs", ".txt"))]
    for name in names:
        os.makedirs(os.path.dirname(name), exist_ok=True)
    asked, log = names
    utils.save_json({"kind": case.kind, "settings": case.settings, "gpu": options.device == "gpu",
                     "folder": os.path.abspath(options.out)}, asked)
    # The first GPU of nvidia-smi, unless the user says otherwise; and room for all code that is compiled for it.
    environment = {"CUDA_CACHE_MAXSIZE": COMPILED, "CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                   **os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if options.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    with open(log, "wb") as said, subprocess.Popen(
            [sys.executable, os.path.join(utils.PROJECT, "benchmarks", "gpu_parts.py"), asked], stdout=subprocess.PIPE,
            stderr=said, env=environment, start_new_session=True, preexec_fn=quality_data.end_with_us()) as process:
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            out = None
        finally:
            with contextlib.suppress(ProcessLookupError):       # whatever it has started
                os.killpg(process.pid, signal.SIGKILL)
    if out is None:
        return {"failed": f"not done in {limit:.0f} s"}
    if process.returncode == 0:
        with contextlib.suppress(ValueError, IndexError):
            return {"result": json.loads(out.decode().splitlines()[-1])}
    return {"failed": f"{last_words(log)} (status {process.returncode})"}


def last_words(path):
    """Read the last line of a log, or "it said nothing"."""
    lines = [line.strip() for line in utils.read_text(path, "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def main(arguments):
    """Measure what is not there yet, and print the report -> exit status, 1 where a check or a case failed."""
    options = parse(COMMAND, arguments).options
    check(options)
    os.makedirs(options.out, exist_ok=True)
    with utils.hold(options.out):
        utils.save_json(OURS, os.path.join(options.out, SETTINGS))
        results = Results(options.out, cases_of(PARTS, options.quick), fingerprint(options))
        chosen = [case for case in results.cases if case.part in options.parts]
        deadline = time.monotonic() + 60 * options.minutes
        for place, case in enumerate(chosen, 1):
            words = f"{place}/{len(chosen)} {case.part} {case.name}".strip()
            if case.key in results.records:
                logging.info("%s: kept", words)
                continue
            left = deadline - time.monotonic()
            if left < LEAST:
                break
            began = time.monotonic()
            found = measure(case, options, min(case.limit, left))
            if left < case.limit and time.monotonic() >= deadline and "failed" in found:
                logging.info("%s: no time is left for it", words)
                break
            results.keep(case, found, time.monotonic() - began)
            logging.info("%s: %.0f s%s", words, time.monotonic() - began,
                         f", FAILED: {found['failed']}" if "failed" in found else "")
            if case.part == "device" and options.device == "gpu" and "failed" in found:
                raise UserError(f"--device gpu: {found['failed']}")
        report = results.write()
    print(report.text(), end="")
    print(f"written to {os.path.join(options.out, gpu_report.TEXT)} and {gpu_report.JSON}")
    return 0 if report.is_well else 1


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(program.run("gpu.py", main, sys.argv[1:]))
