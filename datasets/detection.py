"""Find faces in a photo with the package mtcnn, on one core of the CPU."""
import functools
import os

import numpy as np
from PIL import Image

POINTS = "left_eye", "right_eye", "nose", "mouth_left", "mouth_right"       # left and right as seen in the picture


@functools.cache
def detector():
    """The package's MTCNN, on one core of the CPU. Raises ImportError without the package or what it needs.

    Its networks run as compiled graphs, for pictures of all sizes: the same boxes, in a third of the time.
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
        stage._model = tf.function(stage.model, [tf.TensorSpec([None, side, side, 3])])     # there is no public way
    return MTCNN(stages)


def detect(picture, longest):
    """Faces in a Pillow RGB image, found in it with its longer side reduced to `longest` pixels: float [n, 15].

    In pixels of the whole picture: left, top, right, bottom, confidence, then columns and rows of the five POINTS. A
    box may reach over the picture's border.
    """
    reduced, scale = picture, max(*picture.size, longest) / longest
    if scale > 1:
        sides = [max(round(side / scale), 1) for side in picture.size]
        reduced = picture.resize(sides, Image.Resampling.BILINEAR, reducing_gap=3)
    found = detector().detect_faces([np.asarray(reduced)], fit_to_image=False, box_format="xyxy", output_type="numpy")
    x, y = np.divide(picture.size, reduced.size)
    return found[:, 1:16] * [x, y, x, y, 1, *[x] * 5, *[y] * 5] if len(found) else np.zeros([0, 15])
