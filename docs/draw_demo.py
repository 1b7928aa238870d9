"""Draw the README's picture from what `make demo` made: python docs/draw_demo.py [OUTPUT]

Rows: the first rendering of each of the first 20 people; the photo made of it by the weights that come with the
program; the one made by the demo's own short training; drawn photos of other people. None is chosen by hand.
"""
import os
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEOPLE, ROWS = 20, ("syn", "generated", "learned", "real")
DATA = os.path.join("demo", "data")


def main(output):
    """Draw the rows that are there into the image file `output`."""
    import numpy as np

    from datasets.image_sets import find_renderings
    from datasets.images import load_image, make_grid, save_image

    cells = []
    for folder in (os.path.join(DATA, row) for row in ROWS):
        if os.path.isdir(folder):
            images = find_renderings(folder)
            first = [images.names[images.labels.tolist().index(person)] for person in range(PEOPLE)]
            cells += [load_image(os.path.join(folder, name), 64) for name in first]
    save_image(make_grid(np.stack(cells), PEOPLE), output)


if __name__ == "__main__":
    sys.path.insert(0, PROJECT)
    main(*sys.argv[1:] or [os.path.join("demo", "demo.png")])
