"""Draw the pictures of docs/training.md: python docs/draw_training.py RUN QUALITY FOLDER

RUN is the training of `make weights`, in weights-demo/logs: its grids become FOLDER/healthy_run.jpg, and its losses
FOLDER/healthy_curves.png. QUALITY is the folder that benchmarks/quality.py wrote with `--domain drawn`: what some of
its trainings make of the same renderings becomes FOLDER/failures.jpg. People are the first ones, and steps at even
distances: none is chosen by hand.
"""
import glob
import os
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEOPLE, SHOWN = 12, 4               # people in a row, grids of a run
SIDE, GAP = 64, 2                   # pixels of a cell of a grid, and between two cells
LOSSES = "Loss_D", "Loss_G", "cycle"
FIRST, LAST = 0, -1
# Rows of QUALITY's table, from the top, and which of their grids is shown.
FAILURES = ("cpu", LAST), ("began", LAST), ("black", LAST), ("transposed", FIRST), ("collapse", LAST)


def main(run, quality, folder):
    """Draw the three pictures."""
    from datasets.images import save_image
    from engine.curves import draw_curves, read_stats

    stats = read_stats(run)
    save_image(draw_curves({"3,000 steps": {name: stats[name] for name in LOSSES}}),
               os.path.join(folder, "healthy_curves.png"))
    save_image(draw_run(run), os.path.join(folder, "healthy_run.jpg"))
    save_image(draw_failures(quality), os.path.join(folder, "failures.jpg"))


def draw_run(run):
    """Draw the grids of the run in a folder -> uint8 [H, W, 3], a row for each of these.

    Renderings, the first of each identity; photos made of them after some numbers of steps; photos of pairs; their
    renderings; what G_inv makes of these photos at the first and at the last grid.
    """
    steps = steps_of(run)
    steps = [steps[round(part * (len(steps) - 1) / (SHOWN - 1))] for part in range(SHOWN)]
    pairs = [f"{step}_pairs.png" for step in (steps[0], steps[-1])]
    return rows_of(run, [("syn_fixed.png", 0), *((f"{step}_G.png", 0) for step in steps), (pairs[0], 0), (pairs[0], 1),
                         *((name, 2) for name in pairs)])


def draw_failures(quality):
    """Draw grids of some trainings in a folder of quality.py -> uint8 [H, W, 3].

    The first row has renderings. Each other row has the photos that a training of FAILURES makes of them.
    """
    import numpy as np

    runs = [(glob.glob(os.path.join(quality, "runs", name, "*_gen_*"))[0], grid) for name, grid in FAILURES]
    rows = [rows_of(run, [(f"{steps_of(run)[grid]}_G.png", 0)]) for run, grid in runs]
    return np.concatenate([rows_of(runs[0][0], [("syn_fixed.png", 0)]), *rows])


def steps_of(run):
    """List after which steps the run in a folder has drawn a grid."""
    return sorted(int(os.path.basename(path).split("_")[0]) for path in glob.glob(os.path.join(run, "*_G.png")))


def rows_of(run, chosen):
    """Lay columns of grids of a run out as rows. `chosen` are names of grids, and which column of cells."""
    import numpy as np

    from datasets.images import make_grid, read_picture

    cells = []
    for name, column in chosen:
        grid, stride = np.asarray(read_picture(os.path.join(run, name))), SIDE + GAP
        cells += [grid[row * stride:row * stride + SIDE, column * stride:column * stride + SIDE]
                  for row in range(PEOPLE)]
    return make_grid(np.stack(cells), PEOPLE)


if __name__ == "__main__":
    sys.path.insert(0, PROJECT)
    main(*sys.argv[1:])
