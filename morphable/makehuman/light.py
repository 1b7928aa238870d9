"""Light, pose and colour of photos of MakeHuman's head: like the exposure and white balance of ordinary photos.

The numbers were chosen so that the cheeks have the brightness, the tint and the difference between left and right that
the faces of news photos have: about 156 of 255, with a deviation of 23; and 20 % from side to side.
"""
import numpy as np

from morphable.latents import BLOCKS, BlockStatistics, builtin_statistics, Statistics

DESCRIPTION = "built-in, of photos"
WARMTH = np.array([.030, 0, -.042])         # of one deviation of a light's colour
GREY = np.array([.3, .59, .11])
USUAL, ADAPTED = 212.0, .70                  # brightness of a cheek, and how much of it the camera evens out


def statistics():
    """Make the Statistics of light, pose and colour; of a single image they have a third of these covariances."""
    whole = np.sqrt(3)
    lights = np.zeros([10, 6])
    lights[:3, 0], lights[3:6, 1] = .10, .15            # how strong
    lights[:3, 2], lights[3:6, 2] = .62 * WARMTH, .5 * WARMTH           # how warm, both
    lights[3:6, 2] += .25 * WARMTH
    lights[6, 3], lights[7, 4], lights[8, 5] = .33, .75, 9
    colours = np.zeros([7, 4])
    colours[:3, 0], colours[:3, 1] = .13, .6 * WARMTH
    colours[3:6, 2], colours[6, 3] = .018, .06
    blocks = dict(builtin_statistics().blocks)
    blocks["Illum_Para"] = BlockStatistics(np.array([.70, .69, .68, .50, .48, .46, .38, 0, 20, 13]), whole * lights)
    blocks["Color_Para"] = BlockStatistics(np.array([1, 1, 1, .008, .008, .01, 1.06]), whole * colours)
    assert set(blocks) == set(BLOCKS)
    return Statistics(DESCRIPTION, blocks, True)


def expose(color, illumination, tone):
    """Adapt Color_Para as a camera does to light and to skin of the colour `tone` [3] -> [7]."""
    light = np.maximum(illumination[:3], 0) + .72 * np.maximum(illumination[3:6], 0)
    bright = max(float((tone * light) @ GREY), 1.0)
    color = np.array(color)
    color[:3] = np.clip(color[:3], .6, 1.5) * np.clip((USUAL / bright) ** ADAPTED, .6, 1.9)
    color[6] = np.clip(color[6], .75, 1.25)
    return color
