"""Write images as files in a folder for each identity."""
import os

import utils


class Folder:
    """An export into `IDENTITY/IMAGE.jpg`."""

    def __init__(self, source):
        """Take a Source. The names of the `files` are known when they are written."""
        self._source, self.files = source, []

    def place(self, index):
        """Tell where image `index` is -> {column: value}: its path is all."""
        return {}

    def write(self, folder, is_whole, bar):
        """Write the images that are not there into `folder`, as `is_whole(name)` tells; tell a `bar` of each.

        What a kill has left half-written is removed.
        """
        source, parents = self._source, set()
        for index in range(source.count):
            content = source.content(index) if source.packed else None      # which tells the suffix
            name = source.file_name(index, content)
            self.files.append(name)
            path = os.path.join(folder, name)
            parent = os.path.dirname(path)
            if parent not in parents:
                os.makedirs(parent, exist_ok=True)
                utils.clean_temporary(parent)
                parents.add(parent)
            if not is_whole(name):
                with utils.atomic_write(path) as file:
                    file.write(content or source.content(index))
            bar.update()
