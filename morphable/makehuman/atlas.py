"""The atlas of a person's colours, painted where it is looked at.

An image of 64 pixels shows a fifth of the skin's texels, and less of the hair's. The atlas has the blocks of `mesh.py`.
No texel depends on others, so that any of them may be painted at any time.
"""
import functools

import numpy as np

from morphable.makehuman.mesh import ATLAS_HEIGHT, ATLAS_WIDTH, BLOCKS

CHUNK = 1 << 13             # texels that are painted at once: what a cache holds


class Atlas:
    """An atlas whose texels are painted when they are needed first."""

    def __init__(self, painters):
        """Make a bare atlas.

        `painters` are {block: function}. A function takes the flat indices [n] of texels in its block, and paints these
        -> [5, n], or [5, 1] where all are alike.
        """
        self.image = np.zeros([5, ATLAS_HEIGHT, ATLAS_WIDTH], np.float32)      # rgb in 0..255, gloss, height of hair
        self._painters, self._bare = painters, np.ones(ATLAS_HEIGHT * ATLAS_WIDTH, bool)

    def paint(self, places):
        """Paint those of the texels `places`, flat indices in the atlas, that are bare."""
        places = places[np.take(self._bare, places)]
        if not places.size:
            return
        first = places.min()
        wanted = np.zeros(places.max() - first + 1, bool)
        wanted[places - first] = True
        places = np.flatnonzero(wanted) + first             # each once
        blocks, flat = np.take(_blocks(), places), self.image.reshape(5, -1)
        for number, (name, (left, top, width, _)) in enumerate(BLOCKS.items()):
            chosen = places[blocks == number]
            for start in range(0, len(chosen), CHUNK):
                chunk = chosen[start:start + CHUNK]
                row, column = np.divmod(chunk, ATLAS_WIDTH)
                for plane, values in zip(flat, self._painters[name]((row - top) * width + column - left)):
                    plane[chunk] = values
        self._bare[places] = False

    def paint_all(self):
        """Paint all texels -> [5, H, W]."""
        self.paint(np.arange(ATLAS_HEIGHT * ATLAS_WIDTH))
        return self.image


@functools.cache
def _blocks():
    """Number the block of each texel -> int8 [H·W]; -1: none."""
    numbers = np.full([ATLAS_HEIGHT, ATLAS_WIDTH], -1, np.int8)
    for number, (left, top, width, height) in enumerate(BLOCKS.values()):
        numbers[top:top + height, left:left + width] = number
    return numbers.ravel()


def find(block, texels):
    """Find the flat indices in the atlas of `texels` [n], flat indices in a block -> [n]."""
    left, top, width, _ = BLOCKS[block]
    row, column = np.divmod(texels, width)
    return (row + top) * ATLAS_WIDTH + column + left
