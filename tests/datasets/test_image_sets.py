"""datasets/image_sets: photos, renderings and pairs found in folders, in order; broken images named and dropped."""
import logging
import os

import numpy as np
import pytest

from datasets import image_sets
from datasets.image_sets import (
    check_images,
    columns_for,
    data_folder,
    find_pairs,
    find_photos,
    find_renderings,
    ImageSet,
    list_folders,
    list_images,
    places_of,
    subset,
    walk,
)
from drawn import draw_face, write_dataset
from tool import one_line, touch
from utils import UserError

SIZE = 16


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a drawn data set."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(str(folder), size=SIZE, identities=3, per_identity=2, photos=7, pairs=3)
    return folder


# Finding images

def test_list_images(tmp_path):
    names = ["2.jpg", "010.JPG", "10.jpg", "b.png", "a.WebP", "img10.jpeg", "img2.bmp", "00001.jpg"]
    touch(tmp_path, *names, ".hidden.jpg", "._2.jpg", "notes.txt", "jpg", "folder.jpg/1.jpg")
    os.symlink(tmp_path / "2.jpg", tmp_path / "3.jpg")
    assert list_images(str(tmp_path)) == [
        "00001.jpg", "2.jpg", "3.jpg", "010.JPG", "10.jpg", "a.WebP", "b.png", "img10.jpeg", "img2.bmp"]
    with pytest.raises(UserError) as error:
        list_images(str(tmp_path / "absent"))
    one_line(error, "absent")


def test_data_folder(tmp_path):
    touch(tmp_path, "set/train/1.jpg")
    folder = str(tmp_path / "set")
    assert data_folder("--dataset", str(tmp_path), "set") == folder
    assert data_folder("--dataset", str(tmp_path), "set", "train") == os.path.join(folder, "train")
    assert data_folder("--dataset", str(tmp_path), "set", "test") == folder
    assert data_folder("--dataset", "elsewhere", folder) == folder
    with pytest.raises(UserError) as error:
        data_folder("--dataset", "data", "x")
    one_line(error, "--dataset: no folder data/x; ")


def test_find_photos(tmp_path):
    folder = touch(tmp_path, "3.jpg", "10/2.jpg", "10/1.png", "9/1.jpg", "9/deep/1.jpg", ".git/1.jpg")
    photos = find_photos(folder)
    assert photos == ImageSet(folder, ["3.jpg", "9/1.jpg", "10/1.png", "10/2.jpg"])
    with pytest.raises(UserError) as error:
        find_photos(touch(tmp_path / "empty", "person/notes.txt"))
    one_line(error, "empty", "no images")


def test_find_renderings(tmp_path, caplog):
    folder = touch(tmp_path, "10/1.jpg", "9/2.jpg", "9/1.jpg", "bob/1.jpg", "void/notes.txt", "stray.jpg")
    renderings = find_renderings(folder)
    assert renderings.names == ["9/1.jpg", "9/2.jpg", "10/1.jpg", "bob/1.jpg"]
    assert renderings.identities == ["9", "10", "bob"]
    assert renderings.labels.tolist() == [0, 0, 1, 2] and renderings.labels.dtype == np.int32
    assert "1 identities without images" in caplog.text and "void" in caplog.text
    with pytest.raises(UserError) as error:
        find_renderings(touch(tmp_path / "flat", "1.jpg"))
    one_line(error, "no identities", "IDENTITY/IMAGE.jpg")


def test_find_pairs(tmp_path, caplog):
    folder = touch(tmp_path, "2.jpg", "10.jpg", "a.jpg", "alone.jpg", "3dmm/10.jpg", "3dmm/2.jpg", "3dmm/a.png",
                   *(f"3dmm/single{i}.jpg" for i in range(5)))
    pairs = find_pairs(folder)
    assert pairs.photos == ImageSet(folder, ["2.jpg", "10.jpg", "a.jpg"])
    assert pairs.renderings == ImageSet(os.path.join(folder, "3dmm"), ["2.jpg", "10.jpg", "a.png"])
    (record,) = caplog.records
    assert "6 images without partner" in record.message and "alone.jpg, 3dmm/single0.jpg" in record.message
    assert "single4" not in record.message
    for bad in (("1.jpg",), ("1.jpg", "3dmm/2.jpg"), ("3dmm/1.jpg",)):
        with pytest.raises(UserError) as error:
            find_pairs(touch(tmp_path / "-".join(bad).replace("/", ""), *bad))
        one_line(error, "no pairs", "3dmm")


def test_drawn_data_set(drawn):
    assert len(find_photos(str(drawn / "real")).names) == 7
    assert find_renderings(str(drawn / "syn")).labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(find_pairs(str(drawn / "paired")).photos.names) == 3
    rendering, photo = (draw_face(5, 1, 32, photo) for photo in (False, True))
    assert rendering.shape == photo.shape == (32, 32, 3) and rendering.dtype == photo.dtype == np.uint8
    assert not rendering[0].any() and photo[0].all()
    assert np.array_equal(photo, draw_face(5, 1, 32, True)) and not np.array_equal(photo, draw_face(5, 2, 32, True))


def test_summaries_say_where_and_how_many(drawn):
    photos, renderings = find_photos(str(drawn / "real")), find_renderings(str(drawn / "syn"))
    assert photos.summary == f"{drawn}/real: 7 images"
    assert renderings.summary == f"{drawn}/syn: 6 images of 3 identities"
    assert find_pairs(str(drawn / "paired")).summary == f"{drawn}/paired: 3 pairs"


def test_list_folders(tmp_path):
    folder = touch(tmp_path, "10/1", "9/1", "b/1", "a.jpg/1", ".hidden/1", "file.jpg")
    assert list_folders(folder) == ["9", "10", "a.jpg", "b"]
    with pytest.raises(UserError) as error:
        list_folders(str(tmp_path / "file.jpg"))
    one_line(error, "file.jpg: can't list this folder")


# What is passed over

def told(caplog):
    """The warnings so far, without the folder that they begin with."""
    return [record.message.partition(": ")[2] for record in caplog.records if record.levelname == "WARNING"]


OTHERS = [                  # files beside 1.jpg, the warning
    (["a.heic", "b.txt"], "2 files of other kinds, skipped: a.heic, b.txt"),
    (["a.raw", "b.raw", "c.raw", "d.raw"], "4 files of other kinds, skipped: a.raw, b.raw, c.raw, ..."),
    (["line\nbreak.heic"], "1 files of other kinds, skipped: line\nbreak.heic"),
    (["p/a.cr2"], "1 files of other kinds, skipped: p/a.cr2"),
    (["p/q/2.jpg"], "1 folders deeper than images are read, skipped: p/q"),
    (["p/q/r/2.jpg", "p/s/2.jpg"], "2 folders deeper than images are read, skipped: p/q, p/s"),
    (["latents.npz", "settings.json", "alignment.csv", "confidence_scores.csv", "1.mat", ".hidden"], None),
    (["2.tif", "3.gif", "4.JFIF", "5.ppm", "6.avif", "7.jp2", "8.TIFF", "9.apng"], None),
]


@pytest.mark.parametrize("names, warning", OTHERS)
def test_what_is_passed_over_is_counted_and_named(tmp_path, caplog, names, warning):
    find_photos(touch(tmp_path, "1.jpg", *names))
    assert told(caplog) == ([warning] if warning else [])


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, path)


ASTRAY = [                  # link, its target, images that are found besides 1.jpg and p/2.jpg
    ("self.jpg", "self.jpg", []), ("dead.jpg", "nowhere.jpg", []), ("loop", ".", []), ("up", "..", []),
    ("p/loop", "..", []), ("p/self", "self", []), ("folder", "nowhere", []), ("p/own", ".", []),
    ("root", "/", []), ("q", "p", ["q/2.jpg"]), ("3.jpg", "1.jpg", ["3.jpg"]), ("3.jpg", "p/2.jpg", ["3.jpg"])]


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("name, target, more", ASTRAY)
def test_links_that_lead_nowhere_or_in_a_circle(tmp_path, caplog, name, target, more, recursive):
    """An image with two names is two images. A link astray is none, and is named."""
    touch(tmp_path / "set", "1.jpg", "p/2.jpg")
    link(tmp_path / "set" / name, target)
    assert sorted(find_photos(str(tmp_path / "set"), recursive).names) == sorted(["1.jpg", "p/2.jpg", *more])
    wanted = f"1 links that lead nowhere or in a circle, skipped: {name}"
    assert told(caplog) == ([] if more else [wanted])


def test_two_folders_that_link_to_each_other(tmp_path, caplog):
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    link(tmp_path / "a/b", "../b")
    link(tmp_path / "b/a", "../a")
    assert find_photos(str(tmp_path), recursive=True).names == ["a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg"]
    assert told(caplog) == ["2 links that lead nowhere or in a circle, skipped: a/b/a, b/a/b"]
    assert [inside for inside, *_ in walk(str(tmp_path), once=True)] == ["", "a", "a/b"]


def test_all_levels_on_request(tmp_path, caplog):
    names = ["1.jpg", "a/2.jpg", "a/b/3.jpg", "a/b/c/4.png", "d/e/f/5.gif"]
    assert find_photos(touch(tmp_path, *names), recursive=True).names == names and not caplog.records


def test_a_pipe_is_no_image(tmp_path, caplog):
    os.mkfifo(touch(tmp_path, "1.jpg") + "/2.jpg")
    assert find_photos(str(tmp_path)).names == ["1.jpg"]
    assert told(caplog) == ["1 files of other kinds, skipped: 2.jpg"]


def test_what_renderings_and_pairs_pass_over(tmp_path, caplog):
    find_renderings(touch(tmp_path / "syn", "1/1.jpg", "1/a.heic", "1/deep/2.jpg", "stray.jpg", "notes.md"))
    assert told(caplog) == ["2 files of other kinds, skipped: notes.md, 1/a.heic",
                            "1 folders deeper than images are read, skipped: 1/deep",
                            "1 images outside the folders of identities, skipped: stray.jpg"]
    caplog.clear()
    pairs = find_pairs(touch(tmp_path / "paired", "1.jpg", "1.png", "3dmm/1.gif", "3dmm/x.psd", "other/2.jpg"))
    assert told(caplog) == ["1 files of other kinds, skipped: 3dmm/x.psd",
                            "1 folders deeper than images are read, skipped: other",
                            "1 images of the same name as others, skipped: 1.jpg"]
    assert pairs.photos.names == ["1.png"] and pairs.renderings.names == ["1.gif"]


def test_a_folder_of_renderings_that_leads_back_holds_no_pairs(tmp_path):
    link(tmp_path / "set/3dmm", ".")
    with pytest.raises(UserError, match="no pairs"):
        find_pairs(touch(tmp_path / "set", "1.jpg"))


NAMES = ["\udcff.jpg", "a\nb.jpg", "c\rd.jpg", "x" * 251 + ".jpg", "-dash.jpg", " blank .jpg", "#,'\".jpg", "A.jpg",
         "a.jpg", "a.JPG", "\u2028.jpg", "%s{}.jpg"]


def test_odd_names_are_images(tmp_path):
    folder = touch(tmp_path, *(f"{name[:-4]}/{name}" for name in NAMES))
    assert set(find_photos(folder).names) == {f"{name[:-4]}/{name}" for name in NAMES}
    assert set(find_renderings(folder).names) == set(find_photos(folder).names)


def test_subset_numbers_identities_anew(drawn):
    renderings, pairs = find_renderings(str(drawn / "syn")), find_pairs(str(drawn / "paired"))
    some = subset(renderings, [1, 4, 5])
    assert some.names == [renderings.names[i] for i in (1, 4, 5)] and some.root == renderings.root
    assert some.labels.tolist() == [0, 1, 1] and some.labels.dtype == np.int32
    assert some.identities == [renderings.identities[0], renderings.identities[2]]
    some = subset(pairs, [2, 0])
    assert some.photos.names == [pairs.photos.names[2], pairs.photos.names[0]]
    assert some.renderings.names == [pairs.renderings.names[2], pairs.renderings.names[0]]


def test_columns_go_with_their_images(drawn):
    renderings = find_renderings(str(drawn / "syn"))
    some, order = subset(renderings, [5, 1, 4]), np.arange(len(renderings.names))
    found = columns_for({"order": order, "points": np.stack([order, -order], 1)}, renderings, some)
    assert found["order"].tolist() == [5, 1, 4] and found["points"].tolist() == [[5, -5], [1, -1], [4, -4]]
    assert places_of(["a", "b"], ["b", "c", "a", "b"]).tolist() == [1, -1, 0, 1] and columns_for({}, some, some) == {}


# Checking

def test_check_images_names_and_drops_broken_ones(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_dataset(str(tmp_path), size=SIZE, identities=3, per_identity=2, photos=7, pairs=3)
    photos, pairs = find_photos(str(tmp_path / "real")), find_pairs(str(tmp_path / "paired"))
    renderings = find_renderings(str(tmp_path / "syn"))
    for i in (1, 2, 4, 6):
        (tmp_path / "real" / photos.names[i]).write_bytes(b"")
    good = check_images(photos, SIZE, workers=2)
    assert good == ImageSet(photos.root, [photos.names[i] for i in (0, 3, 5)])
    (record,) = caplog.records
    assert "4 broken images" in record.message and photos.names[4] in record.message
    assert photos.names[6] not in record.message

    (tmp_path / "syn" / renderings.names[0]).write_bytes(b"")
    good = check_images(renderings, SIZE, workers=2)
    assert good.names == renderings.names[1:] and good.labels.tolist() == [0, 1, 1, 2, 2]
    (tmp_path / "syn" / renderings.names[1]).write_bytes(b"")
    good = check_images(renderings, SIZE, workers=2)
    assert good.labels.tolist() == [0, 0, 1, 1] and good.labels.dtype == np.int32
    assert good.identities == renderings.identities[1:]

    (tmp_path / "paired" / "3dmm" / pairs.renderings.names[0]).write_bytes(b"")
    (tmp_path / "paired" / pairs.photos.names[1]).write_bytes(b"")
    good = check_images(pairs, SIZE, workers=2)
    assert good.photos.names == pairs.photos.names[2:] and good.renderings.names == pairs.renderings.names[2:]
    assert "3dmm/" + pairs.renderings.names[0] in caplog.records[-1].message


def test_check_images_says_once_that_images_are_resized(drawn, caplog):
    caplog.set_level(logging.INFO)
    pairs = find_pairs(str(drawn / "paired"))
    assert check_images(pairs, SIZE, workers=1) == pairs and not caplog.records
    assert check_images(pairs, 32, workers=1) == pairs
    assert [record.levelname for record in caplog.records] == ["INFO"] and "32x32" in caplog.text


def test_check_images_of_a_large_set_takes_a_fixed_sample(drawn, monkeypatch):
    photos, looked = find_photos(str(drawn / "real")), []
    read_picture = image_sets.read_picture
    monkeypatch.setattr(image_sets, "read_picture", lambda path: looked.append(path) or read_picture(path))
    assert check_images(photos, SIZE, workers=1, limit=4) == photos
    assert len(set(looked)) == 4
    check_images(photos, SIZE, workers=1, limit=4)
    assert looked[4:] == looked[:4]


def test_no_image_that_can_be_decoded(tmp_path):
    photos = find_photos(touch(tmp_path, "1.jpg", "2.jpg"))
    with pytest.raises(UserError) as error:
        check_images(photos, SIZE, workers=1)
    one_line(error, str(tmp_path), "can be decoded")
