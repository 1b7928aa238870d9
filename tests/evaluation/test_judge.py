"""evaluate.py judge and compare, from the command line to the report, on drawn people and a classifier at random."""
import json
import os
import shutil

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import evaluate
import utils
from conftest import small_classifier, tree, words, write_checkpoint
from datasets.image_sets import find_renderings
from datasets.images import load_image, save_image
from drawn import draw_face
from evaluation import judge_command
from evaluation.choosing import confidence_file
from evaluation.figures import PHOTOS, RENDERINGS, SET
from evaluation.labels import face_points
from evaluation.report import report
from evaluation.usefulness import utility
from tool import call, held

SIZE, PEOPLE, EACH = 32, 10, 6


def people(folder, first, photo, count=PEOPLE):
    """Write a folder of drawn people, with numbers from `first` on, as photos or as renderings."""
    for person in range(first, first + count):
        for number in range(EACH):
            path = folder / f"{person:03}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(draw_face(person, number, SIZE, photo), str(path))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A set, its renderings, photos of other people, and a classifier with random weights.

    The last image of each identity of the set shows somebody else.
    """
    folder = tmp_path_factory.mktemp("judged")
    people(folder / "set", 0, True)
    for person in range(PEOPLE):
        image = draw_face((person + 3) % PEOPLE, 40, SIZE, True)
        save_image(image, str(folder / "set" / f"{person:03}" / f"{EACH - 1}.png"))
    (folder / "set" / "people.csv").write_text("identity,female\n" + "".join(f"{i:03},1\n" for i in range(PEOPLE)))
    people(folder / "syn", 0, False)
    people(folder / "real", 50, True, 2 * PEOPLE)
    os.makedirs(folder / "rec")
    write_checkpoint(folder / "rec" / "model-1", small_classifier())
    return folder


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Drawn faces are none to a detector, which takes seconds to say so."""
    monkeypatch.setattr(face_points, "missing", lambda: "the package that finds faces is not there; install it")


def judge(data, *more, command="judge", sets=("set",)):
    """Run the command on folders of the data -> Result."""
    return call(evaluate, command, *(data / name for name in sets), *words(
        photos=data / "real", weights=data / "rec", cache=data / "cache", num_worker=2), *more)


@pytest.fixture(scope="module")
def judged(data):
    """What the judgement of the set with its renderings printed, and its report's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face_points, "missing", lambda: "the package that finds faces is not there; install it")
        result = judge(data, *words(renderings=data / "syn", output=data / "report"))
    assert result.status == 0, result.err
    return result, data / "report"


def figures_of(folder, key):
    """{row: figure} of a measure in the report in `folder`."""
    sections, _ = report.load(str(folder / "report.json"))
    return next(measure.figures for section in sections for measure in section.measures if measure.key == key)


@pytest.mark.slow
def test_the_report_has_every_row_and_section(data, judged):
    result, folder = judged
    sections, facts = report.load(str(folder / "report.json"))
    assert [section.key for section in sections] == ["realism", "identity", "labels", "leakage", "balance",
                                                     "confidence"]
    for key in ("kid", "swd", "colour", "two_sample", "d_prime", "auc"):
        figures = figures_of(folder, key)
        assert all(np.isfinite(figures[row].value) for row in (SET, RENDERINGS, PHOTOS)), key
    assert figures_of(folder, "colour")[SET].value < figures_of(folder, "colour")[RENDERINGS].value
    assert "finds faces is not there" in figures_of(folder, "landmark_error")[SET].why
    assert facts["sets"][SET]["images"] == PEOPLE * EACH and len(facts["embedder"]["sha256"]) == 64
    assert (folder / "DATASHEET.md").exists() and b"<svg" in (folder / "report.html").read_bytes()
    confidences = confidence_file.read(str(folder))
    assert len(confidences) == PEOPLE * EACH and len(set(confidences.values())) > PEOPLE
    wrong = [value for name, value in confidences.items() if name.endswith(f"/{EACH - 1}.png")]
    assert np.mean(wrong) < np.mean(list(confidences.values())) - .1
    assert "KID on small" in result.out and "Do the images look like photos?" in result.out


@pytest.mark.slow
def test_a_group_of_everybody_has_the_figures_of_the_set(judged):
    """Or the reason why there is none: 1,620 pairs of real strangers tell no threshold."""
    sections, _ = report.load(str(judged[1] / "report.json"))
    tables = next(section for section in sections if section.key == "balance").tables
    found = {key: tables[f"sex: {key}"] for key in ("auc", "uniqueness", "leaked")}
    assert [row["group"] for rows in found.values() for row in rows] == ["female"] * 3
    assert found["auc"][0]["value"] == pytest.approx(figures_of(judged[1], "auc")[SET].value)
    assert found["leaked"][0]["value"] == pytest.approx(figures_of(judged[1], "leaked_images")[SET].value)
    assert "needs 10000" in found["uniqueness"][0]["not_measured"]


@pytest.mark.slow
def test_a_second_time_embeds_nothing_and_says_the_same(data, judged, monkeypatch):
    from recognition.embedder import Embedder
    before = json.loads((judged[1] / "report.json").read_text())
    monkeypatch.setattr(Embedder, "embed_all", lambda *_: 1 / 0)
    assert judge(data, *words(renderings=data / "syn", output=data / "report")).status == 0
    assert json.loads((judged[1] / "report.json").read_text())["sections"] == before["sections"]


@pytest.mark.slow
def test_a_planted_photo_is_found_and_does_not_pass_the_gate(data, tmp_path):
    shutil.copytree(data / "set", tmp_path / "leaking")
    shutil.copy(data / "real" / "055" / "2.png", tmp_path / "leaking" / "003" / "9.png")
    result = call(evaluate, "judge", tmp_path / "leaking", *words(
        photos=data / "real", train_photos=data / "real", weights=data / "rec", cache=data / "cache",
        output=tmp_path / "report", gate=0))
    assert result.status == judge_command.GATED and "--gate 0" in result.err
    sections, _ = report.load(str(tmp_path / "report" / "report.json"))
    rows = next(section for section in sections if section.key == "leakage").tables["exceeding_images"]
    assert (rows[0]["image"], rows[0]["photo"]) == ("003/9.png", "055/2.png")


@pytest.mark.slow
def test_a_judged_set_can_be_filtered(data, judged, tmp_path):
    result = call(evaluate, "filter", data / "set", *words(keep=.6, confidences=judged[1], output=tmp_path / "best"))
    assert result.status == 0, result.err
    kept = find_renderings(str(tmp_path / "best"))
    confidences = confidence_file.read(str(judged[1]))
    assert len(kept.names) == PEOPLE * 4 and len(kept.identities) == PEOPLE
    for person in kept.identities:
        own = sorted((confidences[name] for name in confidences if name.startswith(person)), reverse=True)
        assert sorted((confidences[name] for name in kept.names if name.startswith(person)), reverse=True) == own[:4]


@pytest.mark.slow
def test_confidences_of_another_judgement_are_not_filtered_by(data, judged, tmp_path):
    shutil.copytree(judged[1], tmp_path / "report")
    path = tmp_path / "report" / confidence_file.NAME
    path.write_text(path.read_text().replace(",0.", ",0.0", 1))
    result = call(evaluate, "filter", data / "set", *words(keep=.6, confidences=tmp_path / "report"))
    assert result.status == 2 and "not of the same judgement" in result.err.splitlines()[-1]
    assert call(evaluate, "filter", data / "set", *words(keep=.6, confidences=path)).status == 0


@pytest.mark.slow
def test_utility_trains_on_the_sets_that_are_named(data, judged, monkeypatch):
    asked = {}

    def measure(rows, held_out, settings, seed, folder):
        asked.update({name: [images and os.path.basename(images.root) for images in row[:2]]
                      for name, row in rows.items()}, held_out=len(held_out.identities))
        return utility.impossible("it was not tried")

    monkeypatch.setattr(utility, "measure", measure)
    result = judge(data, *words(renderings=data / "syn", output=judged[1], utility=True))
    assert result.status == 0, result.err
    assert asked == {"renderings": [None, "syn"], "set": [None, "set"], "photos": ["real", None],
                     "photos and set": ["real", "set"], "held_out": PEOPLE}
    assert figures_of(judged[1], "use_auc")[SET].why == "it was not tried"


@pytest.mark.slow
def test_sets_are_compared(data):
    before = tree(data / "set")
    result = judge(data, command="compare", sets=("set", "syn"))
    assert result.status == 0 and tree(data / "set") == before
    heading = next(line for line in result.out.splitlines() if "photos" in line and "set" in line)
    assert heading.split()[:2] == ["set", "syn"]


@pytest.mark.parametrize("change, message", [
    (dict(photos="nowhere"), "--photos nowhere: not there"),
    (dict(weights="nowhere"), "--weights nowhere: "),
    (dict(output="set"), "--output set: "), (dict(output="real/in"), "--output real/in: "),
    (dict(gate="2"), "--gate 2: "), (dict(renderings="nowhere"), "--renderings nowhere: "),
    (dict(generator="nowhere"), "nowhere")])
def test_bad_input_is_one_line(data, monkeypatch, change, message):
    monkeypatch.chdir(data)
    before = tree(data)
    result = call(evaluate, "judge", "set", *words(**dict(photos="real", weights="rec") | change))
    assert result.status == 2 and message in result.err.splitlines()[-1]
    assert tree(data) == before


def test_a_set_of_one_identity_can_t_be_judged(data, tmp_path, monkeypatch):
    people(tmp_path / "one", 0, True, 1)
    result = call(evaluate, "judge", tmp_path / "one", *words(photos=data / "real", weights=data / "rec"))
    assert result.status == 2 and "one identity only" in result.err.splitlines()[-1]
    result = call(evaluate, "judge", tmp_path / "one", tmp_path / "two", *words(photos=data / "real"))
    assert result.status == 2 and "evaluate.py compare" in result.err


def refused(data, sets, *more, command="judge", **changed):
    """Run the command, which has to refuse before any image is embedded -> the last line that it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_command, "start", lambda: 1 / 0)
        result = call(evaluate, command, *sets, *words(**dict(
            photos=data / "real", weights=data / "rec", cache=data / "cache") | changed), *more)
    assert result.status == 2, result.err
    return result.err.splitlines()[-1]


def test_photos_of_one_person_are_refused_first(data, tmp_path):
    people(tmp_path / "one", 70, True, 1)
    assert "photos of one person only" in refused(data, [data / "set"], photos=tmp_path / "one")


def test_damaged_scores_are_told_before_any_work(data, tmp_path):
    shutil.copytree(data / "set", tmp_path / "scored")
    (tmp_path / "scored" / "confidence_scores.csv").write_text("no scores\n")
    for command, sets in ("judge", ["scored"]), ("compare", [data / "syn", tmp_path / "scored"]):
        line = refused(data, [tmp_path / each for each in sets], command=command)
        assert "confidence_scores.csv" in line and "judge a copy without it" in line


@pytest.mark.slow
def test_a_report_that_another_process_writes_is_left_to_it(data, tmp_path, monkeypatch):
    """Also where the other one began after the folder was looked at."""
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.json").write_text("{}")
    with held(folder) as process:
        before = tree(folder)
        assert f"process {process} on " in refused(data, [data / "set"], output=folder)
        monkeypatch.setattr(utils, "check_free", lambda *_: None)
        assert f"process {process} on " in refused(data, [data / "set"], output=folder) and tree(folder) == before


def test_a_judgement_that_fails_leaves_no_folder(data, tmp_path, monkeypatch):
    monkeypatch.setattr(judge_command, "start", lambda: None)
    monkeypatch.setattr(judge_command, "_judge_one", lambda *_: (_ for _ in ()).throw(utils.UserError("it failed")))
    (tmp_path / "mine").mkdir()
    for name, there in ("new", False), ("mine", True):
        result = judge(data, *words(output=tmp_path / name))
        assert result.status == 2 and "it failed" in result.err
        assert (tmp_path / name).exists() == there and (not there or tree(tmp_path / name) == {})


def test_all_sets_are_looked_at_before_the_first_is_compared(data, tmp_path):
    people(tmp_path / "one", 0, True, 1)
    (tmp_path / "empty").mkdir()
    for name, message in ("one", "one identity only"), ("empty", "no identities"):
        assert message in refused(data, [data / "set", tmp_path / name], command="compare")


@pytest.mark.parametrize("content", ["[]", "{", '{"trainings": {"a": 1}}', '{"trainings": {"a": {"values": {}}}}',
                                     '{"trainings": {"a": {"values": {}, "draws": {"auc": 1}}}}'])
def test_damaged_results_of_trainings_are_told_before_any_work(data, tmp_path, content):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "utility.json").write_text(content)
    assert "utility.json" in refused(data, [data / "set"], output=tmp_path / "report", utility=True)


def test_a_filtered_set_is_looked_at_before_any_work(data, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no identities" in refused(data, [data / "set"], filtered=tmp_path / "empty", utility=True,
                                      output=tmp_path / "report")


def test_the_folder_of_a_judgement_that_was_stopped_in_its_trainings_is_gone_on_with(data, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "utility.json").write_text('{"trainings": {}}')
    typed = [data / "set", *words(photos=data / "real", weights=data / "rec", output=tmp_path / "report")]
    options = judge_command.parse(judge_command.JUDGE, list(map(str, typed))).options
    assert judge_command.check(options) == str(tmp_path / "report")


@pytest.mark.slow
def test_photos_of_which_only_one_person_s_can_be_decoded_are_told(data, tmp_path):
    people(tmp_path / "real", 70, True, 2)
    for path in (tmp_path / "real" / "071").iterdir():
        path.write_bytes(b"broken")
    result = judge(data, *words(output=tmp_path / "report", photos=tmp_path / "real"))
    assert result.status == 2 and "photos of one person only" in result.err.splitlines()[-1]


@pytest.mark.slow
def test_damaged_labels_are_told_and_not_fatal(data, tmp_path):
    shutil.copytree(data / "set", tmp_path / "set")
    for number, content in enumerate((b"", b"PK\3\4 no archive", b"\x93NUMPY nothing", b"text")):
        (tmp_path / "set" / f"{number:03}" / "latents.npz").write_bytes(content)
    result = judge(data, *words(output=tmp_path / "report"), sets=[tmp_path / "set"])
    assert result.status == 0 and "4 files of labels are damaged" in result.err, result.err


@pytest.mark.slow
def test_confidences_fall_with_blur(data, tmp_path):
    means, shares = [], []
    for sigma in (0, .7, 1.5):
        folder = tmp_path / f"blurred {sigma}"
        for path in sorted((data / "set").glob("*/*.png")):
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            image = gaussian_filter(load_image(str(path), SIZE), [sigma, sigma, 0])
            save_image(image, str(folder / path.parent.name / path.name))
        result = judge(data, *words(output=tmp_path / f"report {sigma}"), sets=[folder])
        assert result.status == 0, result.err
        means.append(np.mean(list(confidence_file.read(str(tmp_path / f"report {sigma}")).values())))
        shares.append(figures_of(tmp_path / f"report {sigma}", "good_images")[SET].value)
    assert (np.diff(means) < -.02).all() and (np.diff(shares) < 0).all(), (means, shares)
