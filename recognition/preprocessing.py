"""From crops to a classifier's input: its window is cut out, resized and standardised, the same way or at random."""
import tensorflow as tf

from recognition import dlib_file, input_size

tf1 = tf.compat.v1


def preprocess(x, view, offset=None, flips=None):
    """Turn crops `x` [B, S, S, 3] in [-1, 1] into a classifier's input [B, view.size, view.size, 3].

    Each crop is cut to the window of the input_size.View, resized, and standardised. `offset` [2] int32 is the place
    of the window, (down, right), for the whole batch: each number is below `input_size.offsets_of(S, view.window)`.
    None puts the window into its usual place. `flips` [B] bool says which images to mirror; None: no image.
    Resizing a central window samples pixel i of the input at i * window / view.size, TF1's convention, as the original
    does. Any other window is resized as in `cut_window`.
    """
    size = x.shape[1]
    x = _to_pixel_values(x)
    if view.window is not None:
        shift = tf.zeros([2]) if offset is None else \
            tf.cast(offset, tf.float32) - (input_size.offsets_of(size, view.window) - 1) / 2
        x = cut_window(x, view.window, view.size, shift)
    else:
        window = input_size.window_of(size)
        if window < size:
            top, left = [(size - window) // 2] * 2 if offset is None else tf.unstack(offset, 2)
            x = tf.image.crop_to_bounding_box(x, top, left, window, window)
        if window != view.size:
            x = tf1.image.resize_bilinear(x, [view.size] * 2, align_corners=False, half_pixel_centers=False)
    if flips is not None:
        x = tf.where(flips[:, None, None, None], tf.reverse(x, [2]), x)
    return standardize(x, view.standardization)


def cut_window(x, window, size, shift):
    """Resize an input_size.Window of images `x` [B, S, S, 3] -> [B, size, size, 3].

    `shift` [2] float32 moves the window by (down, right) pixels. Pixels are interpolated linearly; where the window is
    made smaller, over a wider neighbourhood, so that nothing is skipped. Border pixels are repeated beyond the border.
    This is two products with constant matrices: its gradient is exact, and the same in every run.
    """
    rows = _interpolation(window.top, window.bottom, x.shape[1], size, shift[0])
    columns = _interpolation(window.left, window.right, x.shape[2], size, shift[1])
    return tf.einsum("ip,bpqc,jq->bijc", rows, x, columns)


def place(x, view, transforms, mirrored=False):
    """Preprocess crops `x` [B, S, S, 3] in [-1, 1] by `transforms` [B, 8] of alignment -> [B, view.size, view.size, 3].

    Pixels are interpolated linearly, and border pixels are repeated beyond the border. With `mirrored`, the result is
    mirrored. Its gradient by `x` is not deterministic.
    """
    x = _transformed(x, view, transforms, "NEAREST")
    return standardize(tf.reverse(x, [2]) if mirrored else x, view.standardization)


def _transformed(x, view, transforms, beyond):
    """Place crops `x` [B, S, S, 3] in [-1, 1] by `transforms` [B, 8] -> pixel values [B, view.size, view.size, 3].

    `beyond` says what is seen beyond a crop's border: its NEAREST pixels, or a REFLECTion.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=_to_pixel_values(x), transforms=transforms, output_shape=[view.size] * 2, fill_value=0.0,
        interpolation="BILINEAR", fill_mode=beyond)


def _interpolation(first, last, pixels, size, shift):
    """Make the matrix [size, pixels] that resizes a line of `pixels` from share `first` to `last` to `size` pixels."""
    step = (last - first) * pixels / size
    places = first * pixels + (tf.range(size, dtype=tf.float32) + .5) * step - .5 + shift
    places = tf.clip_by_value(places, 0., pixels - 1.)
    distances = tf.abs(places[:, None] - tf.range(pixels, dtype=tf.float32)[None, :])
    weights = tf.nn.relu(1. - distances / max(step, 1.))
    return weights / tf.reduce_sum(weights, 1, keepdims=True)


def augment(x, view, shifts, flips, angles, alter=None):
    """Preprocess crops `x` [B, S, S, 3] in [-1, 1] for a classifier's own training, each in its own way.

    `shifts` [B, 2] int32 moves each window from its place by (down, right) pixels, see `input_size.shifts_of`.
    `flips` [B] bool mirrors the window, and `angles` [B] turns it, in radians. Pixels beyond the crop's border are
    reflected. `alter` changes the pixel values of what is then seen, [B, view.size, view.size, 3] from 0 to 255; None:
    nothing does. The result is [B, view.size, view.size, 3], standardised as `preprocess` does.
    Its gradient by `x` is not deterministic: use `preprocess` for images that a network made.
    """
    (first_row, scale_down, middle_row), (first_column, scale_right, middle_column) = _axes_of(view, x.shape[1])
    down, right = tf.unstack(tf.cast(shifts, tf.float32) + [first_row + middle_row, first_column + middle_column],
                             axis=1)
    across = tf.where(flips, -scale_right, scale_right)     # crop's pixels to the right, for each pixel of the input
    start = tf.where(flips, scale_right * (view.size - 1), 0.0) - middle_column         # where the first column lies
    sine, cosine = tf.sin(angles), tf.cos(angles)
    zeros = tf.zeros_like(angles)
    transform = tf.stack([cosine * across, -sine * scale_down, cosine * start + sine * middle_row + right,
                          sine * across, cosine * scale_down, sine * start - cosine * middle_row + down,
                          zeros, zeros], 1)
    x = _transformed(x, view, transform, "REFLECT")
    x = alter(x) if alter else x
    return standardize(x, view.standardization)


def _axes_of(view, size):
    """Tell where the pixels of an input_size.View lie in crops of side `size` -> ((first, scale, middle), (...)).

    The two are of rows and of columns. Pixel i lies at first + i * scale, in pixels of the crop. The window is turned
    around first + middle.
    """
    if view.window is None:
        window = input_size.window_of(size)
        return (((size - window) // 2, window / view.size, (window - 1) / 2),) * 2
    axes = []
    for first, last in ((view.window.top, view.window.bottom), (view.window.left, view.window.right)):
        scale = (last - first) * size / view.size
        axes.append((first * size + scale / 2 - .5, scale, scale * (view.size - 1) / 2))
    return tuple(axes)


def standardize(x, standardization):
    """Standardise images `x` [B, H, W, 3] of pixel values in [0, 255] as a network expects them.

    With the `standardization` "image", each image gets mean 0 and standard deviation 1. With "fixed", it becomes
    (x - 127.5) / 128, which FaceNet's models of 2018 were trained with. With "arcface", it becomes (x - 127.5) / 127.5,
    as in InsightFace's code. With "dlib", means of red, green and blue are subtracted, as in dlib's network.
    """
    if standardization == "image":
        return tf.image.per_image_standardization(x)
    if standardization == "dlib":
        return (x - tf.constant(dlib_file.MEANS)) / dlib_file.SCALE
    return (x - 127.5) / {"fixed": 128.0, "arcface": 127.5}[standardization]


def _to_pixel_values(x):
    """Map `x` from [-1, 1] to [0, 255]; values beyond are clipped."""
    return tf.clip_by_value((x + 1.0) * 127.5, 0.0, 255.0)
