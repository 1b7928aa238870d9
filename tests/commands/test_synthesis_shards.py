"""main.py --generate_dataset --shard and --fit_dataset --shard: images, labels and scores are those of one machine."""
import csv
import shutil

import numpy as np
import pytest

import main
from conftest import NAMES, NARROW, SMALL, tree, words
from datasets.shards import FOLDER, MANIFEST
from tool import call, succeed_here, Tool

pytestmark = pytest.mark.slow
HIDDEN = f"{FOLDER}/", ".sources.jsonl", ".scores/"         # how the work was done
CSV = "confidence_scores.csv"


@pytest.fixture(scope="module")
def data(tools, trained):
    """A data folder with labelled renderings and photos."""
    folder = tools.new_folder()
    for name in ("syn", "real"):
        shutil.copytree(tools.drawn / name, folder / name)
    (folder / "syn/00002/broken.jpg").write_bytes(b"no image")
    for place in (folder / "syn").iterdir():
        np.savez(place / "latents.npz", names=sorted(path.name for path in place.glob("*.jpg")))
    return folder


def options(tools, trained, data, mode, output, **more):
    """The words of a synthesis or fitting."""
    name = "save_syn_dataset" if mode == "generate_dataset" else "save_fitting"
    return words(**{**NAMES, **NARROW, **SMALL, "data_dir": data, mode: True, name: output,
                    "pretrained_rec": tools.classifier, "log_dir": data / "logs", "load_path": trained.run_dir, **more})


def visible(folder):
    """All files of an output but the notes of how the work was done -> {name: bytes}."""
    return {name: content for name, content in tree(folder).items()
            if not any(part in name for part in HIDDEN)}


def sums_in(folder):
    """The merged manifest -> {file: sha256}, and the set of shards."""
    with open(folder / FOLDER / MANIFEST, newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["file"]: row["sha256"] for row in rows}, {row["shard"] for row in rows}


@pytest.mark.parametrize("mode", ["generate_dataset", "fit_dataset"])
def test_the_same_bytes_whatever_the_number_of_shards(tools, trained, data, mode):
    succeed_here(main, *options(tools, trained, data, mode, f"{mode}0"))
    whole, sums = visible(data / f"{mode}0"), []
    assert (CSV in whole) == (mode == "generate_dataset") and len(whole) > 10
    for count in (1, 2, 3):
        output = f"{mode}{count}"
        for number in range(count, 0, -1):
            succeed_here(main, *options(tools, trained, data, mode, output), "--shard", f"{number}/{count}")
            assert (CSV in visible(data / output)) == (number == 1 and mode == "generate_dataset")
        assert visible(data / output) == whole
        found, owners = sums_in(data / output)
        assert found.keys() == whole.keys() - {"settings.json"}
        assert owners - {"all"} == {f"{number}/{count}" for number in range(1, count + 1)}
        sums.append(found)
    assert sums[0] == sums[1] == sums[2]
    succeed_here(main, *options(tools, trained, data, mode, f"{mode}2"))
    assert visible(data / f"{mode}2") == whole and not (data / f"{mode}2" / FOLDER).exists()


@pytest.mark.long
def test_folders_of_several_machines_are_put_together_and_finished(tools, trained, data, monkeypatch):
    """More shards than identities: some have nothing to do. --shard finish builds no network."""
    def make(output, shard, **more):
        return call(main, *options(tools, trained, data, "generate_dataset", output, **more), "--shard", shard)

    succeed_here(main, *options(tools, trained, data, "generate_dataset", "whole"))
    refused = Tool("main.py").refused
    refused(make("merged", "finish"), "--shard finish", "--save_syn_dataset", "merged", "has no shards")
    for number in range(1, 7):
        result = make(f"machine{number}", f"{number}/6")
        assert result.status == 0, result.err[-2000:]
        if number == 4:
            refused(make("merged", "finish"), "shards 4/6, 5/6, 6/6 are not done")
            refused(make("merged", "finish", pretrained_rec=""), "was begun with other settings")
        shutil.copytree(data / f"machine{number}", data / "merged", dirs_exist_ok=True)
    assert not (data / "merged" / CSV).exists()
    monkeypatch.setattr("trainer.Trainer", None)
    assert make("merged", "finish").status == 0
    assert visible(data / "merged") == visible(data / "whole")


def test_what_does_not_fit_together_is_refused_before_the_network_is_built(tools, trained, data, monkeypatch):
    def make(*shard, **more):
        return call(main, *options(tools, trained, data, "generate_dataset", "parts", **more), *shard)

    assert make("--shard", "1/3").status == 0
    before = tree(data / "parts")
    monkeypatch.setattr("trainer.Trainer", None)
    refused = Tool("main.py").refused
    refused(make("--shard", "2/4"), "--shard 2/4", "begun in 3 shards, not 4")
    refused(make("--shard", "2/3", random_seed=9), "--save_syn_dataset", "begun with other settings: random_seed")
    refused(make("--shard", "2/3", scores=False), "--shard 2/3", "begun with other settings")
    refused(make("--shard", "2/3", overwrite=True), "--overwrite: not with --shard")
    assert tree(data / "parts") == before
