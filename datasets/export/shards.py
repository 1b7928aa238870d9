"""Write images in shards, files of so many each: tar files as WebDataset reads them, or TFRecords."""
import io
import json
import os
import tarfile

import utils
from datasets.export import tfrecord
from datasets.export.source import kind_of


class Shards:
    """An export into files of `size` images each; a file appears when it is whole."""

    def __init__(self, source, size):
        """Take a Source and how many images a file gets."""
        self._source, self._size = source, size
        self._count = -(-source.count // size)
        self.files = [self._name(number) for number in range(self._count)]

    def place(self, index):
        """Tell where image `index` is -> {column: value}."""
        return {"shard": self.files[index // self._size]}

    def write(self, folder, is_whole, bar):
        """Write the shards that are not there into `folder`, as `is_whole(name)` tells; tell a `bar` of the images."""
        for number, name in enumerate(self.files):
            indices = range(number * self._size, min((number + 1) * self._size, self._source.count))
            if not is_whole(name):
                with utils.atomic_write(os.path.join(folder, name)) as file:
                    self._write_shard(file, indices)
            bar.update(len(indices))


class WebDataset(Shards):
    """An export into tar files: KEY.jpg, KEY.cls (the number of the identity) and KEY.json (all that is known)."""

    def _name(self, number):
        return f"shard-{number:06}.tar"

    def place(self, index):
        """Tell where image `index` is -> {column: value}."""
        return {**super().place(index), "key": f"{index:09}"}

    def _write_shard(self, file, indices):
        """Write the images `indices` to an open `file`."""
        source = self._source
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for index in indices:
                content, key = source.content(index), f"{index:09}"
                facts = {"name": source.file_name(index, content), "identity": source.identity(index),
                         "label": source.labels[index], **source.facts(index)}
                for ending, data in ((kind_of(content, source.names[index])[0], content),
                                     (".cls", str(source.labels[index]).encode()),
                                     (".json", json.dumps(facts).encode())):
                    member = tarfile.TarInfo(key + ending)              # its time is 0: the same bytes in every run
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


class TFRecord(Shards):
    """An export into TFRecord files of tf.train.Examples, under the keys that TensorFlow's data sets use."""

    def _name(self, number):
        return f"images-{number:05}-of-{self._count:05}.tfrecord"

    def _write_shard(self, file, indices):
        """Write the images `indices` to an open `file`."""
        source = self._source
        for index in indices:
            content = source.content(index)
            file.write(tfrecord.frame(tfrecord.example({
                "image/encoded": content, "image/format": kind_of(content, source.names[index])[1].encode(),
                "image/filename": os.fsencode(source.file_name(index, content)),
                "image/class/label": source.labels[index],
                "image/class/text": os.fsencode(source.identity(index))})))
