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
        """Write the images that are not there into `folder`, as `is_whole(name)` tells; tell a `bar` of each."""
        source = self._source
        for index in range(source.count):
            content = source.content(index) if source.packed else None      # which tells the suffix
            name = source.file_name(index, content)
            self.files.append(name)
            if not is_whole(name):
                path = os.path.join(folder, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with utils.atomic_write(path) as file:
                    file.write(content or source.content(index))
            bar.update()
