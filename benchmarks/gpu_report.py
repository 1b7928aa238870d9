"""The report of gpu.py: what holds and what does not, and tables of what was measured, as text and as JSON."""
import textwrap

TEXT, JSON = "report.txt", "report.json"
WIDTH = 118
# Largest relative errors against the original's numbers. float32: three to ten times what the kernels of oneDNN for
# AVX-512 have against those that the original ran with, since a GPU's are as different: where a and b of a loss |a - b|
# agree to the last digits, rounding decides what goes into a gradient. tf32: three eighths of what bfloat16 has there,
# which has 3 bits less, and not below float32.
TOLERANCES = {
    "images": (3e-4, .06), "losses": (1e-3, 4e-3), "scores": (1e-5, 6e-4), "embeddings": (2e-5, 4e-3),
    "grad G": (.1, .5), "grad G_inv": (.1, 1.), "grad D": (5e-3, .2), "k": (2e-5, 2e-4), "centroids": (1e-4, 4e-4),
    "variables": (.02, .03), "averages": (.02, .03), "classifier": (.02, .03)}
PRECISIONS = "float32", "tf32", "bfloat16"
MOST_NAMES = 3              # of operations, in a line


class Report:
    """What is known of a machine. `is_well` tells whether all cases were measured without failing, and all checks hold.

    Cases that are still to be measured are told, and do no harm.
    """

    def __init__(self, facts, cases, records):
        """Take gpu.fingerprint, all Cases, and {(part, name): record} of those that were measured."""
        self._facts, self._records = facts, records
        self._left = [case for case in cases if case.key not in records]
        self.failed = {key: record["failed"] for key, record in records.items() if "failed" in record}
        self.checks = [*self._placed(), *self._exact(), *self._repeated()]
        self.is_well = not self.failed and all(holds for holds, _ in self.checks)

    def as_json(self):
        """Give all of it as what JSON can hold."""
        return {**self._facts, "well": self.is_well,
                "checks": [{"holds": holds, "check": words} for holds, words in self.checks],
                "left": [" ".join(case.key).strip() for case in self._left],
                "results": list(self._records.values())}

    def _of(self, part):
        """Collect the results of a part -> {name: result}."""
        return {name: record["result"] for (its_part, name), record in self._records.items()
                if its_part == part and "result" in record}

    # Checks: pairs of whether it holds, and what it is

    def _placed(self):
        for name, found in self._of("placement").items():
            for key, words in (("fell back", "every operation that can be on the device is there"),
                               ("no kernel for a GPU", "every operation has a kernel for GPUs"),
                               ("not deterministic", "every operation has a deterministic kernel for GPUs")):
                if key in found:
                    lost = ", ".join(_named(each) for each in found[key].items())
                    yield not lost, f"{name}: {words}{lost and '; not: ' + lost}"

    def _exact(self):
        for precision, found in self._of("goldens").items():
            if "out of memory" in found:
                continue
            above = ", ".join(f"{name} {error:.1e} (at most {_tolerance(name, precision):g})"
                              for name, error in found.items() if not error <= _tolerance(name, precision))
            yield not above, (f"{precision}: the original's numbers are kept within the tolerances of this precision"
                              f"{above and '; not: ' + above}")

    def _repeated(self):
        for kind, words in (("deterministic", "with determinism"), ("free", "without determinism")):
            runs = {name.partition(", ")[2]: found for name, found in self._of("determinism").items()
                    if name.startswith(kind) and "digest" in found}
            for role, what in (("again", "a second run of as many steps"), ("resumed", "a run resumed half-way")):
                if "first" in runs and role in runs:
                    same = runs["first"]["digest"] == runs[role]["digest"]
                    # Nothing is promised without determinism: what is found is told in any case.
                    yield same or kind == "free", (f"{words}, {what} {'equals' if same else 'differs from'} the first "
                                                   "one, bit for bit" + ("" if kind != "free" else " (not promised)"))

    # The text

    def text(self):
        """Write the report -> str, with lines that end."""
        lines = [f"facegan {self._facts['commit']} on {self._facts['device']}", ""]
        lines += ["--quick: narrow networks and a few steps; the times below tell nothing.", ""] * self._facts["quick"]
        lines += ["Checks", *(line for holds, words in self.checks for line in _wrapped(
            f"  {'ok  ' if holds else 'FAIL'}  {words}"))] if self.checks else []
        lines += [line for (part, name), why in self.failed.items()
                  for line in _wrapped(f"  FAIL  {part} {name}: {why}")]
        for part, write in (("device", self._device), ("start", self._start), ("placement", self._placement),
                            ("goldens", self._goldens), ("determinism", self._determinism), ("steps", self._steps),
                            ("synthesis", self._rates), ("input", self._rates), ("profile", self._profile),
                            ("training", self._training)):
            found = self._of(part)
            if found:
                lines += ["", *write(part, found)]
        if self._left:
            lines += ["", *_wrapped(f"Not measured yet: {len(self._left)} cases, with which the same command goes on, "
                                    "without --parts. " + "; ".join(" ".join(case.key).strip() for case in self._left))]
        return "\n".join(lines) + "\n"

    def _device(self, part, found):
        yield "Machine"
        for name, value in found[""].items():
            if value:
                yield from _wrapped(f"  {name:20} {_shown(value)}")

    def _start(self, part, found):
        yield "main.py, from the command to the end of the first step"
        for name, value in found[""].items():
            yield f"  {name.removesuffix(' s'):20} {value:8.1f} s"

    def _placement(self, part, found):
        yield "Operations of a step, without soft placement"
        for name, each in found.items():
            if "out of memory" in each:
                yield f"  {name}: out of memory"
                continue
            yield f"  {name}: {each['operations']} in all, {each['on device']} of them on the device"
            for reason, types in each["host"].items():
                yield from _wrapped(f"    on the host: {sum(types.values())}: {reason} ({_counts(types)})")

    def _goldens(self, part, found):
        yield "Largest relative error against the original's numbers, and what is allowed"
        yield f"  {'':28}" + "".join(f"{precision:>24}" for precision in found)
        for name in next(iter(found.values())):
            yield f"  {name:28}" + "".join(
                f"{each.get(name, float('nan')):12.1e} ({_tolerance(name, precision):8.1e})"
                for precision, each in found.items())

    def _determinism(self, part, found):
        yield "Two trainings, and one that is resumed half-way"
        for name, each in found.items():
            if "digest" in each:
                yield f"  {name:26} {1e3 * each['seconds']:8.1f} ms a step   digest {each['digest'][:16]}"
        first, free = (found.get(f"{kind}, first", {}).get("seconds") for kind in ("deterministic", "free"))
        if first and free:
            yield f"  determinism costs {100 * (first / free - 1):.1f} % of a step"

    def _steps(self, part, found):
        table = {}
        for name, each in found.items():
            size, batch, precision, *xla = name.split(", ")
            table.setdefault((int(size), int(batch)), {})[precision, bool(xla)] = each
        columns = [(precision, xla) for precision in PRECISIONS for xla in (False, True)]
        titles = "".join(f"{precision + (' XLA' if xla else ''):>16}" for precision, xla in columns)
        for number, (title, cell) in enumerate((
                ("Milliseconds of a training step", _milliseconds), ("Images a second", _rate),
                ("Milliseconds of a step that reads its images, too", _with_input), ("Peak memory, GiB", _memory))):
            yield from [""] * bool(number) + [title]
            yield f"  {'size, batch':12}{titles}"
            for (size, batch), cells in sorted(table.items()):
                yield f"  {f'{size}, {batch}':12}" + "".join(
                    f"{_cell(cells.get(column), cell):>16}" for column in columns)

    def _rates(self, part, found):
        yield {"synthesis": "Synthesis, without files", "input": "The images that a training reads, alone"}[part]
        for name, each in found.items():
            memory = f"   {each['peak GiB']:8.2f} GiB" if "peak GiB" in each else ""
            yield f"  {name:26} {_cell(each, _rate):>10} images/s{memory}"

    def _profile(self, part, found):
        for name, each in found.items():
            if "out of memory" in each:
                continue
            yield f"Where the time of a step goes at {name}: the costliest kernels (on a CPU: types of operations)"
            yield (f"  {each['ms a step']:.1f} ms, in {100 * each['idle']:.1f} % of which none of "
                   f"{each['kernels a step']:.0f} kernels runs")
            for kernel, milliseconds, count in each["kernels"]:
                yield f"  {milliseconds:9.3f} ms {count:7.0f} x  {kernel[:90]}"

    def _training(self, part, found):
        yield "A training on drawn people, by the command line"
        for name, value in found[""].items():
            yield from _wrapped(f"  {name:20} {value:.4g}" if isinstance(value, float) else f"  {name:20} {value}")


def _tolerance(name, precision):
    """Find what a kind of error, "WHEN, KIND", may be at most."""
    return TOLERANCES[name.rpartition(", ")[2]][PRECISIONS.index(precision)]


def _cell(found, cell):
    """Write a cell of a table: what `cell` makes of a result, or why there is none."""
    if found is None:
        return "-"
    return "no memory" if "out of memory" in found else cell(found)


def _milliseconds(found):
    return f"{1e3 * found['seconds']:.1f}"


def _with_input(found):
    return f"{1e3 * found['with input s']:.1f}"


def _rate(found):
    return f"{found['images/s']:.0f}"


def _memory(found):
    return f"{found['peak GiB']:.2f}" if "peak GiB" in found else "-"


def _counts(types):
    """Write {type: count} in a few words."""
    return ", ".join(f"{count} {kind}" for kind, count in list(types.items())[:6]) + (", ..." if len(types) > 6 else "")


def _named(group):
    """Write (type, names) of operations in a few words."""
    kind, names = group
    return f"{len(names)} {kind} ({', '.join(names[:MOST_NAMES])}{', ...' if len(names) > MOST_NAMES else ''})"


def _shown(value):
    """Write a value that JSON can hold for a reader."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
    return "; ".join(map(_shown, value)) if isinstance(value, list) else str(value)


def _wrapped(line):
    """Wrap a line, the further ones indented by as much and 8 more."""
    indent = " " * (len(line) - len(line.lstrip()) + 8)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, replace_whitespace=False, drop_whitespace=True,
                         break_long_words=False, break_on_hyphens=False) or [line]
