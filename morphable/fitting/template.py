"""What is fitted to photos: a FaceModel, and for MakeHuman's head the people who are rendered in its place."""
from typing import NamedTuple

import numpy as np

from morphable import face_model, renderer, scene, textured_renderer
from morphable.fitting import people_model
from morphable.makehuman import model as makehuman_model


class Template(NamedTuple):
    """A model to be fitted."""
    model: face_model.FaceModel
    incidence: object               # `renderer.compute_incidence` of its triangles
    people: people_model.PeopleModel | None = None      # of MakeHuman's head


class Look(NamedTuple):
    """Somebody who was fitted, ready to be rendered."""
    pose: object                    # a function: moves [V, 3] of an expression -> the mesh to be rendered
    colours: np.ndarray             # [V, 3] of the FaceModel's vertices without light, as far as they are not shadows
    labels: dict                    # {Shape_Para, Tex_Para}


def load(path):
    """Load the Template of `--model`, of the usual model if there is none. Raises UserError when it can't be read."""
    path = path or scene.usual_model()
    if scene.is_makehuman(path):
        people = people_model.load(makehuman_model.load(None if path == scene.MAKEHUMAN else path))
        return Template(people.model, people.head.incidence, people)
    model = scene.load_model(path)
    return Template(model, renderer.compute_incidence(model.triangles, len(model.shape_mean)))


def full(coefficients, deviations):
    """Extend coefficients, in standard deviations, to all of a model's components, in the model's unit."""
    result = np.zeros(len(deviations))
    result[:len(coefficients)] = coefficients
    return result * deviations


def neutral(template, shape):
    """Compute the vertices [V, 3] of a shape, in standard deviations, without expression."""
    model = template.model
    return model.shape_mean + face_model.combine(full(shape, model.shape_std), model.shape_basis)


def moves(template, expression):
    """Compute how an expression, in standard deviations, moves vertices [V, 3]."""
    return face_model.combine(full(expression, template.model.expression_std), template.model.expression_basis)


def dress(template, shape, texture, hair=None):
    """Make the Look of a shape and a texture, in standard deviations. `hair` is its rgb [3], if it was seen."""
    model = template.model
    if template.people:
        person = people_model.resemble(template.people, shape, texture, hair)
        figure = makehuman_model.make_figure(template.people.head, person)
        colours = people_model.vertex_colours(template.people.head, person)
        return Look(lambda moved: makehuman_model.with_expression(figure, moved), colours,
                    {"Shape_Para": person.weights, "Tex_Para": person.traits})
    labels = {"Shape_Para": full(shape, model.shape_std), "Tex_Para": full(texture, model.texture_std)}
    colours = np.clip(face_model.compute_texture(model, labels["Tex_Para"]), 0, 255)
    rest = neutral(template, shape)
    triangles, incidence = model.triangles, template.incidence
    return Look(lambda moved: renderer.Mesh(rest + moved, colours, triangles, incidence), colours, labels)


def colours_in_light(template, look, vertices, normals):
    """Choose the colours of `vertices` [n] that light falls on, facing `normals` [n, 3] -> [n, 3]."""
    chosen = look.colours[vertices].astype(np.float64)
    if template.people:
        chosen = chosen * (1 - textured_renderer.SKY / 2 + textured_renderer.SKY * normals[:, 1:2])
    return np.clip(chosen, 1, 255)
