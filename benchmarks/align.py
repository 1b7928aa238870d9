"""Time face detection on one core, as mtcnn comes and as align.py runs it: python benchmarks/align.py PHOTOS

PHOTOS is a folder of photos, or of one sub-folder of photos per person. The first hundred photos are looked at. Printed
are the CPU seconds of the process per photo, without reading the photo, and how far apart the boxes of both ways are.
"""
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

import align
from cli.options import parse
from datasets import crop
from datasets.detection import detect, detector
from datasets.image_sets import find_photos
from datasets.images import read_picture

LIMIT = 100


def time_detection(function, pictures):
    """Call `function` for each picture -> (CPU seconds per picture, list of what it returned)."""
    function(pictures[0])                   # the first call compiles
    start = time.process_time()
    found = [function(picture) for picture in pictures]
    return (time.process_time() - start) / len(pictures), found


def main(folder, longest):
    """Print a line for each way, and a line about the boxes; `longest` is align.py's --detection_size."""
    photos = find_photos(folder)
    pictures = [read_picture(os.path.join(folder, name)) for name in photos.names[:LIMIT]]
    detector()                        # keeps TensorFlow to one thread, for both
    from mtcnn import MTCNN
    package = MTCNN()

    def as_it_comes(picture):
        """Find the faces in a picture as the package does by itself -> float [n, 15]."""
        found = package.detect_faces([np.asarray(picture)], fit_to_image=False, box_format="xyxy", output_type="numpy")
        return found[:, 1:]

    took, theirs = time_detection(as_it_comes, pictures)
    print(f"mtcnn as it comes  {took:.3f} s a photo")
    took, ours = time_detection(lambda picture: detect(picture, longest), pictures)
    print(f"align.py           {took:.3f} s a photo")
    both = [(picture, *faces) for picture, *faces in zip(pictures, theirs, ours) if all(map(len, faces))]
    apart = [np.abs(np.subtract(*(found[crop.choose_box(found[:, :4], *picture.size), :4] for found in faces))).max()
             for picture, *faces in both]
    print(f"{len(pictures)} photos, a face in {sum(map(bool, map(len, theirs)))} and {sum(map(bool, map(len, ours)))}; "
          f"of {len(both)} with both, corners at most {max(apart, default=0):.2f} pixels apart")


if __name__ == "__main__":
    main(sys.argv[1], parse(align.COMMAND, ["--input", sys.argv[1], "--output", "none"]).options.detection_size)
