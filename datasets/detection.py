"""Find faces in a photo with the package mtcnn, on one core of the CPU."""
import functools
import os

import numpy as np
from PIL import Image

POINTS = "left_eye", "right_eye", "nose", "mouth_left", "mouth_right"       # left and right as seen in the picture


@functools.cache
def detector():
    """Load the MTCNN of the package mtcnn, to run on one core of the CPU.

    Its networks run as compiled graphs, one for pictures of all sizes: they find the same boxes in a third of the time.
    Raises ImportError without the package, or without something that it needs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    from mtcnn import MTCNN
    from mtcnn.stages import StageONet, StagePNet, StageRNet
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    stages = StagePNet(), StageRNet(), StageONet()
    for stage, side in zip(stages, (None, 24, 48)):
        # The package has no public way to set this.
        stage._model = tf.function(stage.model, [tf.TensorSpec([None, side, side, 3])])
    return MTCNN(stages)


def detect(picture, longest):
    """Find the faces in a Pillow RGB image, its longer side reduced to `longest` pixels -> float [n, 15].

    Each row has the left, top, right and bottom of a face's box, the confidence, then five columns and five rows of the
    POINTS. They are in pixels of the whole picture. A box may reach beyond the picture's border.
    """
    reduced, scale = picture, max(*picture.size, longest) / longest
    if scale > 1:
        sides = [max(round(side / scale), 1) for side in picture.size]
        reduced = picture.resize(sides, Image.Resampling.BILINEAR, reducing_gap=3)
    found = detector().detect_faces([np.asarray(reduced)], fit_to_image=False, box_format="xyxy", output_type="numpy")
    across, down = np.divide(picture.size, reduced.size)        # pixels of the picture to one of the reduced picture
    factors = [across, down, across, down, 1, *[across] * 5, *[down] * 5]
    return found[:, 1:16] * factors if len(found) else np.zeros([0, 15])
