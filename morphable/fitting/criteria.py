"""Say why a face in a photo can't be fitted, or was fitted badly. All limits are stated here.

Limits were set on 100 news photos of 250 pixels and ten annotated photos, and on darkened, blurred, turned, cut and
covered copies of these.
"""
import numpy as np
from PIL import Image
from scipy import ndimage

from morphable.fitting import geometry, landmark_net
from morphable.fitting.appearance import LUMA
from morphable.fitting.correspondences import EYES, LIPS

LEAST_SCORE, LEAST_FLAG = .75, .9   # of the detector, and of the network for points
LEAST_EYES = 15.0                   # pixels between the eyes, as seen from the front
MOST_YAW = 1.05                     # radians, 60 degrees
MOST_OUTSIDE = .02                  # share of the 468 points that lie outside the photo
# Shares of the distance between the eyes
MOST_SHIFT = .035                   # by which the last pass of the network moved the points
MOST_ERROR = .045                   # mean distance of the model's points from the network's
MOST_TOGETHER = .06                 # the same where a person's photos share the shape
MOST_MIRRORED = .1                  # median distance of points that are found in the mirrored photo
# Points of the network's mesh and their partners on the other side of the face
MIRROR = (np.array([33, 133, 61, 70, 1, 152, 291, 263, 362, 300]),
          np.array([263, 362, 291, 300, 1, 152, 61, 33, 133, 70]))
SHARP_SIDE, FINE_DETAIL = 96, 1.0   # pixels of the face in which detail is measured; deviation of what is no detail
LEAST_SHARP = .04                   # detail, as a share of all contrast
LEAST_CONTRAST = .18                # of the mouth and of each eye, as a share of the face's: plain things cover it else
COVERED = 2.6                       # times the error of colours in the upper half, in the lower half of the face
LEAST_COVERED = 38.0                # levels of that error, at least


def problem_of_face(picture, face, fitted, net):
    """Say why a FoundFace with its FittedPhoto is not to be used -> a few words, None where it is.

    `picture` is a Pillow image, `net` finds faces in it.
    """
    yaw = geometry.angles(fitted)[1]
    outside = ((face.points < -.5) | (face.points > np.array(picture.size) - .5)).any(axis=1).mean()
    if fitted.eyes < LEAST_EYES:
        return f"too small: {fitted.eyes:.0f} pixels between the eyes"
    if outside > MOST_OUTSIDE:
        return "cut at the border of the photo"
    if abs(yaw) > MOST_YAW:
        return f"a profile: turned by {abs(np.degrees(yaw)):.0f} degrees"
    if sharpness(picture, face.points) < LEAST_SHARP:
        return "blurred"
    if face.score < LEAST_SCORE or face.flag < LEAST_FLAG:
        return "hardly a face"
    if face.shift > MOST_SHIFT * fitted.eyes:
        return "landmarks are not steady"
    for name, contrast in contrasts(picture, face.points).items():
        if contrast < LEAST_CONTRAST:
            return f"{name} is covered"
    if fitted.error > MOST_ERROR:
        return f"fitted badly: landmarks are {100 * fitted.error:.1f} % of the distance between the eyes away"
    if mirrored_distance(picture, face, net) > MOST_MIRRORED * fitted.eyes:
        return "landmarks are others in the mirror"
    return None


def sharpness(picture, points):
    """Measure fine detail around points [468, 2] of a Pillow image, as a share of all contrast."""
    grey, _ = _grey_face(picture, points)
    detail = grey - ndimage.gaussian_filter(grey, FINE_DETAIL)
    return float(detail.std() / max(grey.std(), 1))


def contrasts(picture, points):
    """Measure how much mouth and eyes stand out, as shares of the face's contrast -> {what: share}."""
    grey, places = _grey_face(picture, points)
    found = {}
    for name, chosen in (("the mouth", LIPS), ("an eye", EYES[0]), ("the other eye", EYES[1])):
        low, high = np.floor(places[chosen].min(axis=0) - 1), np.ceil(places[chosen].max(axis=0) + 1)
        left, top = np.clip(low.astype(int), 0, SHARP_SIDE - 2)
        right, bottom = np.clip(high.astype(int), [left + 1, top + 1], SHARP_SIDE)
        found[name] = float(grey[top:bottom, left:right].std() / max(grey.std(), 1))
    return found


def _grey_face(picture, points):
    """Cut the face out in grey -> ([SHARP_SIDE, SHARP_SIDE], where its points are there [468, 2])."""
    low, high = points.min(axis=0) + .5, points.max(axis=0) + .5
    middle, side = (low + high) / 2, max((high - low).max(), 1e-6)
    grey = landmark_net.sample(picture, (*middle, side, 0), SHARP_SIDE) @ LUMA
    return grey, ((points + .5 - middle) / side + .5) * SHARP_SIDE


def mirrored_distance(picture, face, net):
    """Measure how far points are from where the mirrored photo has them, in pixels; infinite where it has no face."""
    points = [picture.width - 1, 0] + face.points * [-1, 1]
    found = net.find_around(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), points)
    here, there = MIRROR
    away = [[picture.width - 1, 0] + other.points[there] * [-1, 1] - face.points[here] for other in found]
    return min((float(np.median(np.linalg.norm(each, axis=1))) for each in away), default=np.inf)


def problem_of_fit(fitted, away, photo):
    """Say why a face is fitted badly, together with the others of the person -> a few words, None where it is not.

    `away` [n, 3] are the errors of colours in appearance.Samples `photo`.
    """
    if fitted.error > MOST_TOGETHER:
        return (f"fitted badly with the person's other photos: landmarks are {100 * fitted.error:.1f} % of the "
                "distance between the eyes away")
    size = np.abs(away).mean(axis=1)
    lower, upper = size[photo.lower & ~photo.hair], size[~photo.lower & ~photo.hair]      # a cap above is no harm
    if len(lower) and len(upper) and np.median(lower) > max(COVERED * np.median(upper), LEAST_COVERED):
        return "the lower half of the face is covered"
    return None
