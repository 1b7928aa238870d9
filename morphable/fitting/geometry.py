"""Lay a face model on the network's points in photos: pose and expression of each photo, one shape for all of them.

Poses are found by Gauss-Newton steps. Shape and expressions are coefficients of a linear model, so that one linear
system with a Gaussian prior gives them for a pose. Both take turns.
"""
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from morphable.fitting.correspondences import EYES

SHAPES = 80                         # components of shape that are fitted
SIGMA = .03                         # deviation of the points, as a share of the distance between the eyes
ROUNDS, STEPS = 6, 5
MOST_SHAPE, MOST_EXPRESSION = 3.0, 5.0      # standard deviations


class PointModel(NamedTuple):
    """What of a FaceModel the network's points see. Lengths are in micrometres."""
    mean: np.ndarray                # [468, 3]
    shape: np.ndarray               # [n, 468, 3] per standard deviation
    expression: np.ndarray          # [m, 468, 3] per standard deviation
    weights: np.ndarray             # [468]
    eyes_apart: float               # distance between the middles of the mean's eyes


class FittedPhoto(NamedTuple):
    """How a face is seen in a photo."""
    expression: np.ndarray          # [m] standard deviations
    turn: np.ndarray                # [3, 3]: points p are seen at scale · turn · p + shift, rows counted upwards
    scale: float                    # pixels in a micrometre
    shift: np.ndarray               # [2] pixels
    error: float                    # mean distance of the 468 points from the network's, as a share of `eyes`
    eyes: float                     # distance of the model's eyes in pixels, as it were seen from the front


class FittedPerson(NamedTuple):
    """One person in some photos."""
    shape: np.ndarray               # [n] standard deviations
    photos: list                    # of FittedPhoto


def point_model(model, correspondences):
    """Make the PointModel of a FaceModel with its Correspondences."""
    chosen, count = correspondences.vertices, min(SHAPES, len(model.shape_std))
    mean = (model.shape_mean[chosen] + correspondences.offsets).astype(np.float64)
    shape = model.shape_basis[:count, chosen] * model.shape_std[:count, None, None]
    expression = model.expression_basis[:, chosen] * model.expression_std[:, None, None]
    right, left = (mean[eye].mean(axis=0) for eye in EYES)
    return PointModel(mean, shape.astype(np.float64), expression.astype(np.float64), correspondences.weights,
                      float(np.linalg.norm(left - right)))


def fit(model, seen):
    """Fit a PointModel to the points of one person's photos, a list of [468, 2] columns and rows -> FittedPerson."""
    targets = [points * [1.0, -1.0] for points in seen]
    shape = np.zeros(len(model.shape))
    expressions = [np.zeros(len(model.expression)) for _ in targets]
    poses = [_first_pose(model.mean, target, model.weights) for target in targets]
    for _ in range(ROUNDS):
        poses = [_improve(_points(model, shape, expression), target, model.weights, pose)
                 for expression, target, pose in zip(expressions, targets, poses)]
        shape, expressions = _solve(model, targets, poses)
    photos = []
    for expression, target, pose in zip(expressions, targets, poses):
        points = _points(model, shape, expression)
        turn, scale, shift = _improve(points, target, model.weights, pose)
        eyes = scale * model.eyes_apart
        away = np.linalg.norm(scale * points @ turn[:2].T + shift - target, axis=1)
        photos.append(FittedPhoto(expression, turn, scale, shift, float(away.mean() / eyes), float(eyes)))
    return FittedPerson(shape, photos)


def pose_parameters(photo, height):
    """Describe the pose in a picture of `height` rows as `renderer.project` wants it -> [7]."""
    turn = photo.turn
    pitch, yaw = np.arctan2(turn[1, 2], turn[2, 2]), np.arcsin(np.clip(-turn[0, 2], -1, 1))
    roll = np.arctan2(turn[0, 1], turn[0, 0])
    return np.array([pitch, yaw, roll, photo.shift[0] + 1, height + photo.shift[1], 0, photo.scale])


def _points(model, shape, expression):
    return model.mean + np.tensordot(shape, model.shape, 1) + np.tensordot(expression, model.expression, 1)


def _first_pose(points, target, weights):
    """Find a pose from an affine camera -> (turn, scale, shift)."""
    weights = weights / weights.sum()
    middle, goal = weights @ points, weights @ target
    root = np.sqrt(weights)[:, None]
    camera = np.linalg.lstsq(root * (points - middle), root * (target - goal), rcond=None)[0].T
    left, values, right = np.linalg.svd(camera, full_matrices=False)
    upper = left @ right
    turn = np.vstack([upper, np.cross(*upper)])
    scale = values.mean()
    return turn, scale, goal - scale * turn[:2] @ middle


def _improve(points, target, weights, pose):
    """Improve a pose by Gauss-Newton steps on rotation, logarithm of the scale, and shift."""
    turn, scale, shift = pose
    root = np.sqrt(np.repeat(weights, 2))
    for _ in range(STEPS):
        x, y, z = placed = scale * turn @ points.T
        none, one = np.zeros_like(x), np.ones_like(x)
        system = np.stack([np.column_stack([none, z, -y, x, one, none]),
                           np.column_stack([-z, none, x, y, none, one])], 1).reshape(-1, 6)
        away = (target - placed[:2].T - shift).ravel()
        step = np.linalg.lstsq(root[:, None] * system, root * away, rcond=None)[0]
        turn = Rotation.from_rotvec(step[:3]).as_matrix() @ turn
        scale, shift = scale * np.exp(np.clip(step[3], -.5, .5)), shift + step[4:]
    return turn, scale, shift


def _solve(model, targets, poses):
    """Find the shape that all photos share, and their expressions, for given poses -> (shape, expressions).

    Each photo has its own expression, which is eliminated: the system of the shape keeps its size.
    """
    count = len(model.shape)
    matrix, right = np.eye(count), np.zeros(count)
    parts = []
    for target, (turn, scale, shift) in zip(targets, poses):
        factor = (np.sqrt(np.repeat(model.weights, 2)) / (SIGMA * scale * model.eyes_apart))
        camera = scale * turn[:2].T
        of_shape = (model.shape @ camera).reshape(count, -1).T * factor[:, None]
        of_expression = (model.expression @ camera).reshape(len(model.expression), -1).T * factor[:, None]
        away = (target - model.mean @ camera - shift).ravel() * factor
        inverse = np.linalg.inv(of_expression.T @ of_expression + np.eye(of_expression.shape[1]))
        mixed = of_shape.T @ of_expression
        matrix += of_shape.T @ of_shape - mixed @ inverse @ mixed.T
        right += of_shape.T @ away - mixed @ inverse @ (of_expression.T @ away)
        parts.append((inverse, of_expression, of_shape, away))
    shape = np.clip(np.linalg.solve(matrix, right), -MOST_SHAPE, MOST_SHAPE)
    expressions = [np.clip(inverse @ (of_expression.T @ (away - of_shape @ shape)), -MOST_EXPRESSION, MOST_EXPRESSION)
                   for inverse, of_expression, of_shape, away in parts]
    return shape, expressions


def angles(photo):
    """Read pitch, yaw and roll of a FittedPhoto, in radians."""
    return pose_parameters(photo, 0)[:3]
