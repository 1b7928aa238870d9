"""Numbers as a report writes them: rounded by their intervals, with the reason where there is none."""
import math

from evaluation.figures import Figure

MOST_DECIMALS = 6
MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value, width=None):
    """Write a number with the digits that say something.

    `width`, half of its interval, tells which: the last is the first digit of `width`, or its second where the first
    is 1. Without it, three digits are written, and whole numbers whole. None and what is not finite become a dash.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NOTHING if value is None else str(value)
    if not math.isfinite(value):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e7):
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    if width and math.isfinite(width):
        place = math.floor(math.log10(width)) if width > 0 else -2
        decimals = (width < 2 * 10. ** place) - place
    else:
        decimals = 2 - math.floor(math.log10(size)) if size else 0
    written = f"{value:,.{min(max(decimals, 0), MOST_DECIMALS)}f}"
    if width is None and "." in written:
        written = written.rstrip("0").rstrip(".")
    return written.replace("-", MINUS) if float(written.replace(",", "")) else written.lstrip("-")


def half_width(figure):
    """Compute half the width of a Figure's interval, None where it has none."""
    if figure.low is None or figure.high is None or not math.isfinite(figure.high - figure.low):
        return None
    return (figure.high - figure.low) / 2


def of_figure(figure):
    """Write a Figure -> (its value, its interval), the latter "" where it has none.

    What was not measured has the value "not measured" and, in place of an interval, the reason.
    """
    if figure.value is None or not math.isfinite(figure.value):
        return "not measured", figure.why or "the measure gave no number"
    width = half_width(figure)
    interval = "" if width is None else f"{number(float(figure.low), width)} to {number(float(figure.high), width)}"
    return number(figure.value if width is None else float(figure.value), width), interval


def joined(rows):
    """Join the numbers of a figure that lie in several columns of a table, as Figure.as_json makes them -> rows."""
    spread = {"value", "low", "high", "n", "not_measured"}
    return [{"value": Figure.from_json(row), **{key: row[key] for key in row if key not in spread}}
            if "not_measured" in row or {"value", "n"} <= row.keys() else row for row in rows]


def title(name):
    """Turn a name that programs use into words: `collisions_at_0.001` into `Collisions at 0.001`; d' stays."""
    words = str(name).replace("_", " ")
    return words if words.startswith("d'") else words[:1].upper() + words[1:]


def in_words(figure):
    """Write a Figure in words, for text: `0.31 (0.28 to 0.34; n = 1,200)`, or `not measured: why`."""
    value, interval = of_figure(figure)
    if value == "not measured":
        return f"{value}: {interval}"
    more = "; ".join(part for part in (interval, f"n = {figure.n:,}" if figure.n else "") if part)
    return f"{value} ({more})" if more else value
