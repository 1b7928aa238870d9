"""Embed the images of sets by one recogniser. What a cache has is not computed again, so that a judgement goes on."""
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import utils
from datasets import crop_kinds
from engine import checkpoints, runs
from engine.session import session_options
from evaluation.contents import digest_of
from evaluation.embedding_cache import EmbeddingCache
from recognition import input_size, pretrained, registry
from recognition.alignment import find_faces, TARGETS, transforms_for
from recognition.embedder import Embedder, Recipe
from utils import progress_bar

tf1 = tf.compat.v1

CHUNK = 1024            # images that are looked up, embedded and kept at a time
KNOWN = .95             # share of a set's images whose landmarks are known, for faces to be placed by landmarks


class Settings(NamedTuple):
    """How a recogniser works."""
    batch_size: int
    workers: int                # threads that decode images
    use_gpu: bool
    cache: str                  # file of the cache, see `embedding_cache`
    journal: str = "WAL"        # of SQLite, in that file


class _Places(NamedTuple):
    """How the faces of a set are placed."""
    rows: dict                  # {name of an image: its row}
    transforms: np.ndarray      # float32 [n, 8], see recognition.alignment


class SetEmbedder:
    """A recogniser, loaded once, that embeds sets of any kind of crops. A caller calls `close` in the end.

    Its `name`, `source` (a file) and `sha256` are for the report, and `size` is the length of an embedding.
    """

    def __init__(self, path, settings, option="--weights"):
        """Read the weights at `path`, which `option` names, and build the network. Raises UserError where it can't."""
        self._weights, self._settings = pretrained.read(path, option), settings
        network = self._weights.architecture
        self.source = self._weights.source
        self.name = network.model_def if path in (network.model_def, self.source) else \
            f"{network.model_def} ({os.path.basename(os.path.normpath(path))})"
        self.sha256, self.size = sha256_of(self.source), network.embedding_size
        self._image_size = registry.size_for(network) or self._own_size(path) or \
            registry.CLASSIFIERS[network.model_def].usual
        self._graph = tf.Graph()
        self._networks = {}                     # {kind of crop: Embedder}
        self._places = {}                       # {folder: _Places}, where faces are placed by landmarks
        with self._graph.as_default():
            self._session = tf1.Session(config=session_options(settings.use_gpu))

    @staticmethod
    def _own_size(path):
        """Tell the --image_size of the run at `path`, None where there is none."""
        return runs.load_params(runs.folder_of(path)).get("image_size")

    def place_alike(self, sets):
        """Place faces by landmarks if the recogniser is one that can, and all sets have them; else none.

        `sets` are the Renderings that are going to be embedded, each of another folder. Sets that are placed in
        different ways would differ for that reason alone.
        """
        native, places = self._weights.native, {}
        for each in sets if native in TARGETS else ():
            faces = find_faces(each.root, each.names, native)
            if len(faces) < KNOWN * len(each.names):
                return
            view, size = self._seen_of(crop_kinds.kind_of(each.root))
            places[each.root] = _Places({name: row for row, name in enumerate(each.names)},
                                        transforms_for(faces, each.names, native, view, size))
        self._places = places

    def _seen_of(self, kind):
        """Tell what is seen of crops of a kind, one of crop_kinds.KINDS -> (input_size.View, side of the crops)."""
        window = input_size.window_for(self._weights.native, kind)
        view = input_size.View(self._image_size, self._weights.standardization, window)
        return view, input_size.crop_for(view.size, window)

    def _recipe(self, kind):
        """Make the embedder.Recipe for crops of a kind."""
        view, size = self._seen_of(kind)
        return Recipe(size, view, self._weights.architecture, placed=bool(self._places))

    def _network(self, kind):
        """Build the Embedder for crops of a kind; all share the variables, which get their values with the first."""
        if kind not in self._networks:
            with self._graph.as_default():
                tf1.set_random_seed(0)                  # nothing is random, but determinism insists on a seed
                self._networks[kind] = Embedder(self._recipe(kind), self._settings.batch_size)
                if len(self._networks) == 1:
                    variables = tf1.global_variables()
                    values = pretrained.values_for(self._weights, variables, "--weights")
                    checkpoints.assign(self._session, variables, values, self.source)
        return self._networks[kind]

    def embed(self, images):
        """Embed the images of one of the sets -> float32 [n, E], nan for an image that can't be decoded."""
        kind = crop_kinds.kind_of(images.root)
        recipe, transforms = self._recipe(kind), self._transforms(images.root, images.names)
        cache = EmbeddingCache(self._settings.cache, f"{self.sha256} {recipe.view} {recipe.size} {kind}",
                               self._settings.journal)
        found = np.full([len(images.names), self.size], np.nan, np.float32)
        try:
            with progress_bar("image", len(images.names)) as progress:
                for start in range(0, len(images.names), CHUNK):
                    part = range(start, min(start + CHUNK, len(images.names)))
                    self._embed_some(images, part, kind, transforms, cache, found)
                    progress.update(len(part))
        finally:
            cache.close()
        return found

    def _embed_some(self, images, part, kind, transforms, cache, found):
        """Fill in the rows `part` of `found`, from the `cache` or by the network."""
        keys = [digest_of(os.path.join(images.root, images.names[i]),
                          b"" if transforms is None else transforms[i].tobytes()) for i in part]
        missing = [part[row] for row in cache.fill(keys, found[part.start:part.stop]) if keys[row]]
        if missing:
            found[missing] = self._network(kind).embed_all(
                self._session, images.root, [images.names[i] for i in missing], self._settings.workers,
                None if transforms is None else transforms[missing])
            cache.keep([keys[i - part[0]] for i in missing], found[missing])

    def embed_pixels(self, pixels, images, indices):
        """Embed changed copies of the images number `indices` of a set: `pixels` uint8 [n, S, S, 3] -> float32 [n, E].

        S is `side_for(images)`. Nothing is kept.
        """
        transforms = self._transforms(images.root, [images.names[i] for i in indices])
        return self._network(crop_kinds.kind_of(images.root)).embed_arrays(self._session, pixels, transforms)

    def _transforms(self, root, names):
        """Tell how the images `names` of the set in `root` are placed -> [n, 8]; None where all show the window."""
        if not self._places:
            return None
        places = self._places[root]
        return places.transforms[[places.rows[name] for name in names]]

    def side_for(self, images):
        """Tell the side in pixels at which the images of a set are read."""
        return self._recipe(crop_kinds.kind_of(images.root)).size

    def close(self):
        """Close the session."""
        self._session.close()


def sha256_of(path):
    """Compute the SHA-256 of weights: of one file, or of the data file of a checkpoint's prefix -> 64 digits."""
    data = f"{path}.data-00000-of-00001"
    return utils.sha256_of(data if os.path.isfile(data) else path)
