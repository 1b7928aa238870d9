"""engine/curves and engine/charts: what is read of stats.jsonl, what the picture shows; evaluate.py curves."""
import json

import numpy as np
import pytest
from PIL import Image

import evaluate
from engine.charts import Chart, COLOURS, draw_legend, FINE, round_ticks, shorten, SMALL
from engine.curves import draw_curves, read_stats
from utils import UserError

STEPS = np.arange(1, 301) * 10


def write_run(folder, *lines):
    """Write stats.jsonl of these lines, each a str or an object -> the name of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stats.jsonl").write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n"
                                                for line in lines))
    return str(folder)


def as_lists(stats):
    return {name: (steps.tolist(), values.tolist()) for name, (steps, values) in stats.items()}


def share_of(image, colour, tolerance=8):
    """The share of pixels that have nearly this colour."""
    return (np.abs(image.astype(int) - colour).max(axis=2) <= tolerance).mean()


def noisy(seed, level=1.):
    """300 noisy values around `level`."""
    return STEPS, level + np.random.default_rng(seed).normal(0, .1, len(STEPS))


# Reading

def test_reading_skips_what_is_no_whole_line(tmp_path):
    run = write_run(tmp_path, {"step": 10, "loss": 1, "rate": .5}, "\n", "[1, 2]\n", "7\n", '{"loss": 2}\n',
                    '{"step": 12.5, "loss": 2}\n', '{"step": true, "loss": 2}\n', '{"step": "13", "loss": 2}\n',
                    '{"step": 14}\n', "[" * 100_000 + "\n", '{"step": 15, "lo{"step": 16, "loss": 3}\n',
                    {"step": 20, "loss": 4., "note": "text", "flag": True}, '{"step": 30, "los')
    assert as_lists(read_stats(run)) == {"loss": ([10, 20], [1, 4]), "rate": ([10], [.5])}
    steps, values = read_stats(run)["loss"]
    assert steps.dtype == np.int64 and values.dtype == np.float64


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    run = write_run(tmp_path, *({"step": step, "loss": step} for step in (10, 20, 30, 40, 50)),
                    {"step": 30, "loss": -30}, {"step": 40, "loss": -40, "new": 1}, {"step": 40, "loss": -41})
    assert as_lists(read_stats(run)) == {"loss": ([10, 20, 30, 40], [10, 20, -30, -41])}


def test_values_that_are_not_finite_are_gaps(tmp_path):
    run = write_run(tmp_path, '{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n{"step": 3, "loss": 1e999}\n'
                    f'{{"step": 4, "loss": {10 ** 400}}}\n{{"step": 5, "loss": null}}\n{{"step": 6, "loss": 6}}\n')
    steps, values = read_stats(run)["loss"]
    assert steps.tolist() == [1, 2, 3, 4, 5, 6] and np.isnan(values[:5]).all() and values[5] == 6


def test_bytes_that_are_no_text_spoil_only_their_line(tmp_path):
    (tmp_path / "stats.jsonl").write_bytes(b'{"step": 1, "loss": 1}\n\x00\xff\x00\n{"step": 2, "loss": 2}\n')
    assert as_lists(read_stats(tmp_path)) == {"loss": ([1, 2], [1, 2])}


def test_a_run_without_numbers_is_refused(tmp_path):
    with pytest.raises(UserError, match=rf"^{tmp_path}: no stats.jsonl in it; name .*"):
        read_stats(str(tmp_path))
    run = write_run(tmp_path, '{"step": 1, "lo')
    with pytest.raises(UserError, match=rf"^{tmp_path}/stats.jsonl: no whole line .*; train on") as error:
        read_stats(run)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"no stats\.jsonl in it"):
        read_stats(tmp_path / "stats.jsonl")


# Drawing

@pytest.mark.parametrize("quantities, columns, rows", [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3)])
def test_a_chart_for_each_quantity_in_a_grid(quantities, columns, rows):
    image = draw_curves({"run": {f"loss_{i}": noisy(i) for i in range(quantities)}})
    legend = len(draw_legend([(COLOURS[0], "run")], 440))
    assert image.dtype == np.uint8 and image.shape == (legend + rows * SMALL.height, columns * SMALL.width, 3)
    for edge in (image[:4], image[-4:], image[:, :4], image[:, -4:]):
        assert (edge == 255).all()                                          # nothing is cut
    blank = image[-SMALL.height:, -SMALL.width:]
    assert (blank == 255).all() == (quantities < columns * rows)


def test_each_run_has_its_colour_in_the_legend_and_in_its_charts():
    image = draw_curves({"one": {"loss": noisy(0, 1)}, "two": {"loss": noisy(1, 2), "other": noisy(2)}})
    left, right = image[-SMALL.height:, :SMALL.width], image[-SMALL.height:, SMALL.width:]
    assert share_of(left, COLOURS[0]) > .002 < share_of(left, COLOURS[1])
    assert share_of(right, COLOURS[0]) == 0 and share_of(right, COLOURS[1]) > .002
    legend = image[:-SMALL.height]
    assert share_of(legend, COLOURS[0]) > .001 < share_of(legend, COLOURS[1]) and not share_of(legend, COLOURS[2])


def test_long_curves_are_pale_with_a_smoothed_one():
    """The smoothed one of noise around a level stays near it, where the pale one does not."""
    image = draw_curves({"run": {"loss": noisy(0)}})[-SMALL.height:]
    coloured = image.max(axis=2).astype(int) - image.min(axis=2) > 20
    full = (np.abs(image.astype(int) - COLOURS[0]).max(axis=2) < 30)
    assert np.ptp(np.flatnonzero(full.any(axis=1))) < 50 < 150 < np.ptp(np.flatnonzero(coloured.any(axis=1)))
    assert full.any(axis=0)[SMALL.left + 10:-SMALL.right - 10].all()
    short = draw_curves({"run": {"loss": [each[:20] for each in noisy(0)]}})[-SMALL.height:]
    assert np.ptp(np.flatnonzero((np.abs(short.astype(int) - COLOURS[0]).max(axis=2) < 60).any(axis=1))) > 100


def test_rare_outliers_leave_the_others_visible():
    steps, values = noisy(0)
    values[[5, 150]] = 1e9, -1e9
    image = draw_curves({"run": {"loss": (steps, values)}})[-SMALL.height:]
    inside = image[SMALL.top + 5:-SMALL.bottom - 5, SMALL.left + 5:-SMALL.right - 5]
    assert np.ptp(np.flatnonzero((inside.min(axis=2) < 200).any(axis=1))) > 150
    margin = image[:SMALL.top - 3, SMALL.left:-SMALL.right]
    assert share_of(margin, COLOURS[0], 60) == 0                            # nothing runs over the frame


@pytest.mark.parametrize("values", [
    [3.], [0.], [3.2] * 5, [0.] * 200, [1e30, -1e30], [1e-6, 2e-6], [-5., -7.], [1e-300], [np.nan], [np.nan] * 150,
    [1, np.nan, 2, np.nan], [1000, 1000 + 1e-9], [1.] * 101])
def test_odd_values(values):
    values = np.array(values, float)
    image = draw_curves({"run": {"loss": (np.arange(len(values)) * 50, values)}})[-SMALL.height:]
    assert (share_of(image, COLOURS[0], 60) > 0) == np.isfinite(values).any()


def test_a_curve_has_a_gap_where_a_value_is_missing():
    chart = Chart("t", "x", "", (0, 4), (0, 2), SMALL)
    chart.curve(np.array([[0, 1], [1, 1], [2, np.nan], [3, 1], [4, 9]]), (255, 0, 0), 2)
    row = np.asarray(chart.picture)[round(chart.place(0, 1)[1])]
    red = [tuple(row[round(chart.place(across, 1)[0])]) == (255, 0, 0) for across in (.5, 1.5, 2.5, 3)]
    assert red == [True, False, False, True]
    assert (np.asarray(chart.picture)[SMALL.top * FINE - 2 * FINE - 1, SMALL.left * FINE:] == 255).all()


def test_a_chart_puts_points_where_its_axes_say():
    chart = Chart("t", "x", "y", (-2, 0), (0, 1))
    chart.line([(-2, .5), (0, .5)], (255, 0, 0), 3)

    def at(x, y):
        """The pixel at a point of the chart, on its fine picture."""
        across, down = chart.place(x, y)
        return chart.picture.getpixel((round(across), round(down)))

    assert at(-1, .5) == (255, 0, 0) and at(-1, .6) == (255, 255, 255)


def test_more_runs_than_colours_are_refused():
    with pytest.raises(UserError, match=f"^{len(COLOURS) + 1} runs: more than the {len(COLOURS)} colours"):
        draw_curves({str(i): {"loss": noisy(i)} for i in range(len(COLOURS) + 1)})


def test_long_names_are_shortened_and_wrap():
    assert shorten("short\nname", 14, 440) == "short name"
    assert shorten("name" * 50, 14, 440).startswith("name") and "..." in shorten("name" * 50, 14, 440)
    legend = draw_legend([(COLOURS[i % 8], "a long name of a run " * (1 + 4 * i)) for i in range(5)], 440, 60, "note")
    assert len(legend) > 5 * 22 and (legend[:, -4:] == 255).all() and (legend[-4:] == 255).all()


@pytest.mark.parametrize("low, high, least, labels", [
    (0, 2000, 1, "0 500 1000 1500 2000"), (0, 100_000, 1, "0 20k 40k 60k 80k 100k"), (1, 3, 1, "1 2 3"),
    (0, 12_000, 0, "0 2k 4k 6k 8k 10k 12k"), (5e5, 1.5e6, 0, "0.6M 0.8M 1.0M 1.2M 1.4M"),
    (-.1, .1, 0, "-0.10 -0.05 0 0.05 0.10"), (0, 5e-5, 0, "0 1e-5 2e-5 3e-5 4e-5 5e-5"),
    (.0099, .0301, 0, "0.010 0.015 0.020 0.025 0.030")])
def test_ticks(low, high, least, labels):
    assert list(round_ticks(low, high, least).values()) == labels.split()


# The command

def test_curves_of_two_runs(tmp_path, monkeypatch):
    runs = [write_run(tmp_path / name / "same", *({"step": step, "loss": step} for step in (1, 2, 3))) for name in "ab"]
    output = tmp_path / "new" / "picture.png"
    evaluate.main(["curves", *runs, runs[0] + "/", "--output", str(output)])
    with Image.open(output) as picture:
        image = np.asarray(picture)
    expected = draw_curves({f"{name}/same": read_stats(run) for name, run in zip("ab", runs)})
    assert np.array_equal(image, expected)
    monkeypatch.chdir(tmp_path)
    evaluate.main(["curves", runs[0]])
    assert (tmp_path / "curves.png").exists()


def test_mistakes_of_the_command(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"step": 1, "loss": 1})
    for words, message in [
            (["curves", run, "--output", "curves.gif"], "curves.gif: must be a file name that ends in .png, .jpg"),
            (["curves"], "RUN: needed"), (["curves", run, "--photos", "x"], "--photos: unknown option"),
            ([run], "--photos: needed"), (["--photos", run], "FOLDER: needed"), ([], "needed")]:
        with pytest.raises(SystemExit) as end:
            evaluate.main(words)
        error = capsys.readouterr().err
        assert end.value.code == 2 and message in error and error.count("\n") == 1
    with pytest.raises(UserError, match=r"nowhere: no stats\.jsonl in it"):
        evaluate.main(["curves", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("words", ["distance --photos {0} {0}", "--photos {0} {0}", "{0} --photos {0}"])
def test_the_word_distance_may_be_left_out(words, tmp_path, capsys):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, [32, 32, 3], np.uint8)).save(tmp_path / f"{i}.png")
    evaluate.main(words.format(tmp_path).split())
    assert capsys.readouterr().out == f"{0:8.3f}  {tmp_path}\n"


def test_help_tells_both_commands(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    out = capsys.readouterr().out
    assert "distance: " in out and "curves: " in out


def test_a_line_with_other_names_joins_the_line_of_its_step(tmp_path):
    """As a validation does after the step that it follows."""
    lines = [{"step": 1, "loss": 3.}, {"step": 2, "loss": 2.}, {"step": 2, "accuracy": .5}, {"step": 3, "loss": 1.}]
    (tmp_path / "stats.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    stats = read_stats(str(tmp_path))
    assert stats["loss"][0].tolist() == [1, 2, 3] and stats["loss"][1].tolist() == [3., 2., 1.]
    assert stats["accuracy"][0].tolist() == [2] and stats["accuracy"][1].tolist() == [.5]


def test_runs_without_numbers_are_left_out(tmp_path, caplog):
    """Of a folder of runs, those that have logged nothing yet; it is an error only where none has."""
    write_run(tmp_path / "good", {"step": 1, "loss": 2.}, {"step": 2, "loss": 1.})
    (tmp_path / "fresh").mkdir()
    write_run(tmp_path / "half", '{"step": 1, "lo')
    evaluate.main(["curves", str(tmp_path / "fresh"), str(tmp_path / "good"), str(tmp_path / "half"), "--output",
                   str(tmp_path / "curves.png")])
    assert Image.open(tmp_path / "curves.png").width > 100
    assert [record.getMessage().startswith("left out: ") for record in caplog.records
            if record.levelname == "WARNING"] == [True, True]
    with pytest.raises(UserError, match=r"fresh: no stats\.jsonl"):
        evaluate.main(["curves", str(tmp_path / "fresh"), str(tmp_path / "half")])


def test_of_many_runs_the_last_are_drawn(tmp_path, caplog):
    for number in range(10):
        write_run(tmp_path / f"run{number}", {"step": 1, "loss": 2.}, {"step": 2, "loss": 1.})
    evaluate.main(["curves", *map(str, sorted(tmp_path.glob("run*"))), "--output", str(tmp_path / "curves.png")])
    assert "all but the last 8 runs" in caplog.text


def test_a_mistyped_command_is_named(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["curve", "logs/a"])
    assert "curve: no such command; give one of judge, compare, distance, curves" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["distance A --photos A B", "A --limit 9 B --photos A", "A --photos=A B",
                                   "--photos A -- A B", "A --photos A -- B"])
def test_folders_may_stand_on_both_sides_of_an_option(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in "AB":
        (tmp_path / folder).mkdir()
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 255, [32, 32, 3], np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    evaluate.main(words.split())
    assert capsys.readouterr().out == f"{0:8.3f}  A\n{0:8.3f}  B\n"


@pytest.mark.parametrize("words, message", [
    ("distance A --photo P B", "--photo: unknown option (did you mean --photos?)"),
    ("distance A B --photos", "--photos"),
    ("distance A --limit --photos P", "--limit"), ("distance A --limit -3 --photos P B", "-3: must be a whole number"),
    ("distance --photos P -- ", "FOLDER: needed")])
def test_mistakes_beside_folders_are_named(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        evaluate.main(words.split())
    error = capsys.readouterr().err
    assert end.value.code == 2 and message in error and error.count("\n") == 1


def test_runs_may_stand_on_both_sides_of_an_option(tmp_path):
    runs = [write_run(tmp_path / name, {"step": 1, "loss": 1}, {"step": 2, "loss": 2}) for name in "ab"]
    evaluate.main(["curves", runs[0], "--output", str(tmp_path / "both.png"), runs[1]])
    with Image.open(tmp_path / "both.png") as picture:
        assert np.array_equal(picture, draw_curves({name: read_stats(run) for name, run in zip("ab", runs)}))
