"""Pairs of an annotated photo and the rendering of its annotation: found, checked, and cropped alike.

An annotation is a .mat file with the parameters of the face in the photo; see `latents.py`.
"""
import collections
import os

from datasets import crop
from datasets.image_sets import Skipped, walk, warn_of
from datasets.images import BrokenImage, read_picture, save_image, stem
from morphable import face_model, latents, renderer
from morphable.scene import locate_face, make_mesh
from utils import UserError


def find_annotated(folder):
    """List the paths of the photos in and below `folder` that have a .mat file of their name beside them.

    Photos without one, and what else is passed over, are told in warnings. Raises UserError when there is no such
    photo, or when two photos have one name and would share the file of a crop.
    """
    found, alone, skipped = [], [], Skipped(folder)
    for inside, listing, _ in walk(folder, once=True):
        annotated = {stem(name) for name in listing.others if os.path.splitext(name)[1] == ".mat"}
        skipped.note(inside, listing)
        for name in listing.images:
            (found if stem(name) in annotated else alone).append(os.path.join(folder, inside, name))
    skipped.warn()
    warn_of(folder, "photos without a .mat file of their name", alone)
    if not found:
        raise UserError(f"--annotations {folder}: no photo with a .mat file of its name beside it; name the folder of "
                        "300W-3D or AFLW2000-3D")
    name, count = collections.Counter(stem(os.path.basename(path)) for path in found).most_common(1)[0]
    if count > 1:
        raise UserError(f"--annotations {folder}: {name} is there more than once; render these folders apart")
    return sorted(found)


def check_annotated_model(model, path):
    """Raise UserError unless the FaceModel of `path` has as many components as annotations count."""
    counts = {"Shape_Para": len(model.shape_std), "Exp_Para": len(model.expression_std),
              "Tex_Para": len(model.texture_std)}
    if any(counts[name] != latents.BLOCKS[name] for name in counts):
        there = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UserError(f"--model {path}: {there}, not those of 300W-3D's annotations; give 3DDFA's Model_Shape.mat "
                        "with Model_Exp.mat")


def pair_paths(output, photo):
    """Return the paths below `output` of the crop of `photo` and of its rendering."""
    name = stem(os.path.basename(photo)) + ".jpg"
    return os.path.join(output, name), os.path.join(output, "3dmm", name)


def render_pair(scene, output, photo):
    """Write the crop of an annotated photo and the rendering of its annotation, cut out by the same box.

    `photo` is the path of the photo. Both files go below `output`, see `pair_paths`.
    Returns None, or one line with the file and the field if the photo can't be used. Raises OSError when a file can't
    be written. The rendering is written first, so that a kill never leaves a crop alone. If the crop can't be written,
    the rendering is removed again.
    """
    path = stem(photo) + ".mat"
    try:
        parameters = latents.read_annotation(path)
        picture = read_picture(photo)
    except (ValueError, BrokenImage) as error:
        return str(error)
    if latents.has_rounded_expression(parameters):
        return f"{path} (Exp_Para holds whole numbers: the expression is lost)"
    vertices = face_model.compute_vertices(scene.model, parameters["Shape_Para"], parameters["Exp_Para"])
    mesh = make_mesh(scene, vertices, face_model.compute_texture(scene.model, parameters["Tex_Para"]))
    shot = renderer.Shot(parameters["Illum_Para"], parameters["Pose_Para"], parameters["Color_Para"])
    (width, height), size = picture.size, scene.framing.size
    try:
        box = crop.clip_box(locate_face(scene, vertices, shot.pose, height)[1], height, width)
    except ValueError as error:
        return f"{path} (Pose_Para: {error})"
    if crop.lies_outside(box, height, width):
        return f"{path} (Pose_Para puts the face outside the photo)"
    try:
        frame = renderer.Frame(height, width, box, (size, size), scene.framing.supersample)
        rendering, _ = renderer.render(mesh, shot, frame)
    except ValueError as error:
        return f"{path} (Pose_Para: {error})"
    crop_path, rendering_path = pair_paths(output, photo)
    save_image(rendering, rendering_path, quality=100)
    try:
        save_image(crop.cut_out(picture, box, size), crop_path, quality=100)
    except BaseException:
        os.remove(rendering_path)
        raise
    return None
