"""Fit a face model to the photos of one person, and write each photo with its rendering, cut out by one box."""
import functools
import os
from typing import NamedTuple

import numpy as np

from datasets import crop
from datasets.images import BrokenImage, read_picture, save_image
from morphable import renderer, scene
from morphable.fitting import albums, appearance, correspondences, criteria, geometry, landmark_net, template

LARGEST, ALL = "largest", "all"     # faces of a photo that are fitted
COLOR = np.array([1, 1, 1, 0, 0, 0, 1.0])       # Color_Para of all renderings: what colours tell is in the light
KEPT_PICTURES = 6                   # that are not read twice
SHARED_TONES = 30                   # photos of a person that tell the texture, at most


class Job(NamedTuple):
    """What fitting needs, of all people alike."""
    photos: str                     # folder to read
    output: str                     # folder to write to
    template: template.Template
    points: geometry.PointModel
    faces: str                      # LARGEST or ALL
    framing: scene.Framing


def make_job(options, framing, fitted, matched):
    """Make the Job of a command's options, a scene.Framing, a template.Template and its Correspondences."""
    points = geometry.point_model(fitted.model, matched)
    return Job(options.photos, options.output, fitted, points, options.faces, framing)


class _Face(NamedTuple):
    """A face in a photo, on its way."""
    photo: str
    name: str                       # of the pair
    found: landmark_net.FoundFace


def match(fitted, _item):
    """Let the network look at a template.Template, in a process of its own -> correspondences.Correspondences."""
    return correspondences.find(fitted.model, fitted.incidence, _net())


@functools.cache
def _net():
    """Load the networks, once in a process."""
    return landmark_net.LandmarkNet()


def fit_person(job, album):
    """Fit and write the pairs of one albums.Album, and what is known of them, in a worker.

    Nothing depends on other people. Raises OSError when a file can't be written.
    """
    read = functools.lru_cache(KEPT_PICTURES)(lambda photo: read_picture(os.path.join(job.photos, photo)))
    stamps = albums.stamps_of(job.photos, album.photos)
    rows, faces = [], []
    for photo, name, reason in zip(album.photos, album.names, album.reasons):
        found, problems = ([], [reason]) if reason else _look_at(job, read, photo)
        for number, face in enumerate(found, 1):
            pair = name if number == 1 else f"{name}{albums.SECOND}{number}"
            faces.append(_Face(photo, pair, face))
        rows += [_row(album, photo, problem) for problem in problems]
    groups = [faces] if job.faces == LARGEST else [[face] for face in faces]    # a crowd is no one person
    done = [each for group in groups if group for each in _fit_together(job, read, album, group)]
    albums.drop_pairs(job.output, album, {row["pair"] for row, *_ in done if row["status"] == albums.FITTED})
    labels = []
    for row, label, images in done:
        rows.append(row)
        if images:
            labels.append(label)
            _write(job, row["pair"], *images)
    rows.sort(key=lambda row: (row["photo"], row["status"], row["pair"]))
    order = {row["pair"]: number for number, row in enumerate(rows) if row["pair"]}
    labels.sort(key=lambda label: order[label["pair"]])
    fields = {field: np.array([label[field] for label in labels]) for field in labels[0] if field != "pair"} \
        if labels else {}
    albums.save_part(job.output, album, stamps, rows, fields)


def _look_at(job, read, photo):
    """Find the faces of a photo that can be fitted -> (list of FoundFace, reasons why others can't)."""
    try:
        picture = read(photo)
    except BrokenImage as error:
        return [], [f"unreadable: {str(error).rpartition('(')[2].rstrip(')')}"]
    faces = _net().find(picture, small=job.faces == ALL)
    if not faces:
        return [], ["no face"]
    if job.faces == LARGEST:
        boxes = np.array([[*face.points.min(axis=0), *face.points.max(axis=0)] for face in faces])
        faces = [faces[crop.choose_box(boxes, *picture.size)]]
    good, problems = [], []
    for face in faces:
        fitted = geometry.fit(job.points, [face.points]).photos[0]
        problem = criteria.problem_of_face(picture, face, fitted, _net())
        if problem:
            problems.append(problem)
        else:
            good.append(face)
    return good, problems


def _fit_together(job, read, album, faces):
    """Fit faces that share shape and texture -> list of (row, labels, (crop, rendering) or None)."""
    model = job.template.model
    person = geometry.fit(job.points, [face.found.points for face in faces])
    rest = template.neutral(job.template, person.shape)
    seen = []
    for face, fitted in zip(faces, person.photos):
        picture = read(face.photo)
        vertices = rest + template.moves(job.template, fitted.expression)
        normals = renderer.compute_normals(vertices, model.triangles, job.template.incidence)
        pose = geometry.pose_parameters(fitted, picture.height)
        seen.append(appearance.take(picture, model, vertices, normals, (pose, face.found.points)))
    told = [photo for photo in seen if not photo.hair.all()][:SHARED_TONES]
    if not told:
        return [(_row(album, face.photo, "no skin is seen"), None, None) for face in faces]
    tone = appearance.fit(model, told)
    look = template.dress(job.template, person.shape, tone.texture, tone.hair)
    return [_render(job, read(each[0].photo), album, look, each) for each in zip(faces, person.photos, seen)]


def _render(job, picture, album, look, each):
    """Render a face as its photo shows it -> (row, labels, (crop, rendering) or None).

    `each` is its _Face, its FittedPhoto and its Samples.
    """
    face, fitted, samples = each
    row = functools.partial(_row, album, face.photo)
    if samples.hair.all():
        return row("no skin is seen"), None, None
    colours = template.colours_in_light(job.template, look, samples.vertices, samples.normals)
    light, _ = appearance.fit_light(colours, samples)
    problem = criteria.problem_of_fit(fitted, appearance.errors(colours, samples, light), samples)
    if problem:
        return row(problem), None, None
    mesh = look.pose(template.moves(job.template, fitted.expression))
    pose = geometry.pose_parameters(fitted, picture.height)
    landmarks = renderer.project(mesh.vertices[job.template.model.landmarks], pose, picture.height)[:, :2]
    size = job.framing.size
    box = crop.clip_box(scene.crop_box(landmarks, job.framing), picture.height, picture.width)
    if crop.lies_outside(box, picture.height, picture.width):
        return row("cut at the border of the photo"), None, None
    frame = renderer.Frame(picture.height, picture.width, box, (size, size), job.framing.supersample)
    rendering, _ = scene.render_mesh(mesh, renderer.Shot(light, pose, COLOR), frame)
    labels = {**look.labels, "Exp_Para": template.full(fitted.expression, job.template.model.expression_std),
              "Illum_Para": light, "Pose_Para": pose, "Color_Para": COLOR, "box": np.array(box, np.float64),
              "landmarks": crop.points_in_crop(landmarks, box, size), "points": face.found.points,
              "landmark_error": fitted.error, "photo_size": np.array(picture.size), "pair": face.name}
    about = {"pair": face.name, "status": albums.FITTED, "landmark_error": f"{fitted.error:.4f}",
             "eyes": f"{fitted.eyes:.1f}", "score": f"{face.found.score:.3f}",
             **dict(zip(("pitch", "yaw", "roll"), (f"{angle:.3f}" for angle in pose[:3]))),
             **dict(zip(("left", "top", "right", "bottom"), (f"{edge:.2f}" for edge in box)))}
    return row() | about, labels, (crop.cut_out(picture, box, size), rendering)


def _row(album, photo, reason=""):
    """Make a row of the table for a photo without a pair -> dict of albums.FIELDS, all words."""
    return dict.fromkeys(albums.FIELDS, "") | {"photo": photo, "person": album.person, "status": albums.SKIPPED,
                                               "reason": " ".join(reason.split())}


def _write(job, name, photo, rendering):
    """Write a pair. The rendering comes first, so that a kill never leaves a photo alone."""
    photo_path, rendering_path = albums.pair_paths(job.output, name)
    save_image(rendering, rendering_path, quality=100)
    try:
        save_image(photo, photo_path, quality=100)
    except BaseException:
        if not os.path.exists(photo_path):
            os.remove(rendering_path)
        raise
