"""One face of a model in front of the camera: who it is, how it is lit, seen and framed, and the image of it."""
import logging
from typing import NamedTuple

import numpy as np

from datasets import crop, crop_kinds
from morphable import builtin_model, face_model, latents, model_files, renderer, textured_renderer
from morphable.makehuman import expressions as makehuman_expressions
from morphable.makehuman import files as makehuman_files
from morphable.makehuman import light as makehuman_light
from morphable.makehuman import model as makehuman_model
from morphable.makehuman import people as makehuman_people
from morphable.makehuman import texture as makehuman_texture
from utils import UserError

BUILTIN, MAKEHUMAN = "builtin", "makehuman"             # names of models
EXPRESSION_STREAM = 5       # of random numbers, apart from those of latents.py and makehuman_people.py
CANVAS = 450                # side in pixels of the whole picture that sampled poses refer to


class Framing(NamedTuple):
    """How an image is cut out of a whole picture, around the face."""
    size: int                               # side of the crop in pixels
    margin: int | None                      # pixels of the crop that lie outside MTCNN's box; None with `by_points`
    supersample: int = 2                    # samples a pixel along each side
    whole: bool = False                     # True: no crop, the whole picture of CANVAS pixels
    by_points: bool = False                 # True: the crop is that of ArcFace's template, and no box with a margin


class Cast(NamedTuple):
    """People who are drawn by age, sex and origin rather than from a FaceModel's components."""
    head: makehuman_model.Head
    wishes: makehuman_people.Wishes
    latest: dict                            # {(seed, identity): (Person, Subject)} of the one that was drawn last
    detailed: dict                          # {(seed, identity): Atlas} with pores, of the same one, if there is a photo


class Scene(NamedTuple):
    """What all images of a set share."""
    model: face_model.FaceModel
    incidence: object                       # `renderer.compute_incidence` of the model's triangles
    framing: Framing
    statistics: latents.Statistics | None = None        # what people and images are sampled from
    seed: int = 1                           # of all random numbers
    cast: Cast | None = None                # who is in it, if not people of the model's components


class Subject(NamedTuple):
    """A person in front of the camera."""
    labels: dict                            # what is known of the person, {field: value}
    pose: object                            # a function: moves [V, 3] of an expression -> the mesh to be rendered
    tone: np.ndarray | None = None          # rgb [3] of the skin, to which the camera adapts; None: it does not


class RenderedFace(NamedTuple):
    """The image of a face, and where the face is."""
    image: np.ndarray                       # uint8 [S, S, 3], black around the head
    box: tuple                              # left, top, right, bottom of the crop in the whole picture, in pixels
    landmarks: np.ndarray                   # [68, 2], column and row in the crop, in pixels


# What a scene is made of

def set_scene(model, framing, statistics=None, seed=1, cast=None):
    """Make the Scene of a FaceModel. The incidence of its triangles is computed here, once for all images."""
    incidence = renderer.compute_incidence(model.triangles, len(model.shape_mean))
    return Scene(model, incidence, framing, statistics, seed, cast)


def usual_model():
    """Name the model that is used where none is asked for: MakeHuman's head if its data are installed."""
    return MAKEHUMAN if makehuman_files.is_installed() else BUILTIN


def is_makehuman(path):
    """Tell whether `path` asks for the people of MakeHuman's head: it is the word, or a folder of the data."""
    return path == MAKEHUMAN or makehuman_files.holds_head(path)


def load_cast(path, wishes):
    """Load the people of MakeHuman's head -> (Cast, FaceModel). Raises UserError when the data can't be read."""
    if makehuman_people.are_rounded(wishes):
        logging.warning("--sex, --origin: such fine shares are rounded to parts of %d people",
                        makehuman_people.LONGEST_BLOCK)
    head = makehuman_model.load(None if path == MAKEHUMAN else path)
    return Cast(head, wishes, {}, {}), makehuman_model.to_face_model(head)


def load_model(path):
    """Load the FaceModel at `path`, or build the built-in one if `path` is None, "" or BUILTIN.

    A model without texture borrows the built-in one's. A model without landmarks gets the vertices that lie nearest to
    the built-in one's. A log line tells of either. Raises UserError when the file can't be read.
    """
    if not path or path == BUILTIN:
        return builtin_model.build()
    model = _as_user_error(model_files.load, path)
    if model.landmarks is None or model.texture_mean is None:
        builtin = builtin_model.build()
        if model.texture_mean is None:
            logging.info("%s: no texture in this model; it borrows the built-in one's", path)
            model = face_model.borrow_texture(model, builtin)
        if model.landmarks is None:
            logging.info("%s: no landmarks in this model; they are found by laying it on the built-in one", path)
            model = model._replace(landmarks=face_model.find_landmarks(model, builtin))
    return model


def load_people(path, wishes, statistics=None):
    """Load whose pictures are made -> (Cast or None, FaceModel, latents.Statistics).

    `path` is what `load_model` takes, or the word or folder of MakeHuman's head; None is `usual_model()`. `wishes` say
    which people of that head, and `statistics` is a folder as in `load_statistics`, or None. Raises UserError.
    """
    path = path or usual_model()
    drawn = is_makehuman(path)
    found = load_statistics(statistics, drawn)          # before a model, which takes seconds
    cast, model = load_cast(path, wishes) if drawn else (None, load_model(path))
    return cast, model, found


def load_statistics(folder, like_photos=False):
    """Fit latents.Statistics to the .mat files in `folder`; None or "" stands for built-in ones.

    `like_photos` tells which built-in ones: those for people of MakeHuman's head. Raises UserError when a file is
    broken or none is there.
    """
    if folder:
        return _as_user_error(latents.fit_statistics, folder)
    return makehuman_light.statistics() if like_photos else latents.builtin_statistics()


def _as_user_error(function, argument):
    """Return `function(argument)`; turn a ValueError, about a file of the user's, into a UserError."""
    try:
        return function(argument)
    except ValueError as error:
        raise UserError(str(error)) from error


# People and images

def sample_person(scene, identity):
    """Sample person number `identity` -> coefficients (shape [n_shape], texture [n_texture]).

    The coefficients depend on the scene's seed and on `identity` only.
    """
    return latents.sample_identity(scene.statistics, scene.model, scene.seed, identity)


def sample_shot(scene, identity, image, ranges=None):
    """Sample image number `image` of a person -> (expression [n_expression], renderer.Shot).

    `ranges`, e.g. {"yaw": (-1, 1)} in radians, spreads an angle evenly; see `latents.sample_image`.
    """
    expression, *shot = latents.sample_image(scene.statistics, scene.model, scene.seed, identity, image, ranges)
    if scene.cast:
        expression = makehuman_expressions.draw(latents.make_generator(scene.seed, EXPRESSION_STREAM, identity, image))
    return expression, renderer.Shot(*shot)


def sample_subject(scene, identity):
    """Sample person number `identity` -> Subject. It depends on the scene's seed and on `identity` only."""
    if scene.cast:
        return meet_person(scene, identity)[1]
    shape, texture = sample_person(scene, identity)
    neutral = scene.model.shape_mean + face_model.combine(shape, scene.model.shape_basis)
    skin = clipped_texture(scene, texture)
    return Subject({"Shape_Para": shape, "Tex_Para": texture}, lambda moves: make_mesh(scene, neutral + moves, skin))


def meet_person(scene, identity):
    """Draw person number `identity` of a scene's Cast -> (Person, Subject); the last one is remembered."""
    head, wishes, latest, detailed = scene.cast
    key = scene.seed, identity
    if key not in latest:
        latest.clear()
        detailed.clear()
        person = makehuman_people.draw_person(list(head.catalogue), wishes, scene.seed, identity)
        latest[key] = person, show_person(scene, person)
    return latest[key]


def show_person(scene, person):
    """Give a makehuman_people.Person a body -> Subject."""
    figure = makehuman_model.make_figure(scene.cast.head, person)
    labels = {"Shape_Para": person.weights, "Tex_Para": person.traits, **makehuman_people.label(person)}
    return Subject(labels, lambda moves: makehuman_model.with_expression(figure, moves),
                   makehuman_texture.skin_tone(person))


def expose(subject, shot):
    """Let the camera adapt to the skin of a Subject -> renderer.Shot."""
    if subject.tone is None:
        return shot
    return shot._replace(color=makehuman_light.expose(shot.color, shot.illumination, subject.tone))


def clipped_texture(scene, coefficients):
    """Compute the texture [V, 3] of `coefficients` [n_texture], float32 rgb clipped to 0..255."""
    return np.clip(face_model.compute_texture(scene.model, coefficients), 0, 255)


def make_mesh(scene, vertices, texture):
    """Make a renderer.Mesh of `vertices` [V, 3] in micrometres and `texture` [V, 3], rgb in 0..255."""
    return renderer.Mesh(vertices, texture, scene.model.triangles, scene.incidence)


def locate_face(scene, vertices, pose, height):
    """Find where a face is in a picture of `height` pixels -> (landmarks [68, 2], box of the crop).

    `vertices` [V, 3] are in micrometres, `pose` [7] is as in `renderer.project`. Landmarks are columns and rows in the
    whole picture, in pixels. The box is left, top, right, bottom; it may reach beyond the picture. Raises ValueError
    where a turned box is asked for and all landmarks are one.
    """
    landmarks = renderer.project(vertices[scene.model.landmarks], pose, height)[:, :2]
    return landmarks, crop_box(landmarks, scene.framing)


def crop_box(landmarks, framing):
    """Find the box that a Framing cuts out around a face with these `landmarks` [68, 2] of a picture.

    Raises ValueError where a turned box is asked for and all landmarks are one.
    """
    if framing.by_points:
        return crop_kinds.template_box_of_68(landmarks)
    return crop.add_margin(crop.face_box(landmarks), framing.size, framing.margin)


def render_mesh(mesh, shot, frame):
    """Render a mesh of either renderer as a renderer.Shot shows it, in a renderer.Frame -> (image, covered)."""
    draw = textured_renderer.render if isinstance(mesh, textured_renderer.TexturedMesh) else renderer.render
    return draw(mesh, shot, frame)


def render_face(scene, mesh, shot):
    """Render a mesh as a renderer.Shot shows it, in the scene's framing -> RenderedFace."""
    landmarks, box = locate_face(scene, mesh.vertices, shot.pose, CANVAS)
    size = scene.framing.size
    if scene.framing.whole:
        box, size = (0, 0, CANVAS, CANVAS), CANVAS
    frame = renderer.Frame(CANVAS, CANVAS, box, (size, size), scene.framing.supersample)
    image, _ = render_mesh(mesh, shot, frame)
    return RenderedFace(image, box, crop.points_in_crop(landmarks, box, size))
