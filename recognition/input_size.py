"""Which sizes of input each classifier can take. Imports nothing, so that a command line can ask before TensorFlow loads."""
import math

IMAGE_SIZES = {"nn4": (65, 96), "inception_resnet_v1": (75, math.inf), "small": (32, math.inf)}


def image_size_problem(model_def, image_size):
    """What is wrong with the side `image_size` of the input of the classifier `model_def`, None if nothing is."""
    low, high = IMAGE_SIZES[model_def]
    if low <= image_size <= high:
        return None
    allowed = f"from {low} up" if high == math.inf else f"from {low} to {high}"
    return f"--image_size {image_size}: must be {allowed} for --model_def {model_def}"
