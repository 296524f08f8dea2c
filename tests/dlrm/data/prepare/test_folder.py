"""A folder of prepared data: what is refused, what a killed command leaves, how it is used."""

import json
import os

import numpy as np
import pytest
import torch
from criteo_lines import lines, write

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.arrays import ArrayWriter, mapped
from embpress.dlrm.data.prepare.prepare import prepare


@pytest.fixture
def text(tmp_path):
    return write(tmp_path / "a.txt", "".join(lines(60)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder whose manifest a test may change, and the manifest."""
    place = tmp_path_factory.mktemp("made")
    folder = prepare([write(place / "a.txt", "".join(lines(60)))], place / "to")
    return folder, json.loads((folder / "manifest.json").read_text())


def refused(match, call, *args, **options):
    with pytest.raises(InputError, match=match) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)


def test_a_folder_is_not_written_over(tmp_path, text):
    folder = prepare([text], tmp_path / "to")
    refused("holds prepared data already", prepare, [text], folder)
    refused("holds something else", prepare, [text], tmp_path)
    refused("holds something else", prepare, [text], text)
    os.truncate(folder / "manifest.json", 200)
    refused("holds prepared data already", prepare, [text], folder)
    (folder / "manifest.json").write_text('{"model": "dlrm"}')  # as other folders have one
    refused("holds something else", prepare, [text], folder)


def test_options_stand_and_others_are_refused(tmp_path, text):
    folder = prepare([text], tmp_path / "to", min_count=3, split_seed=1, split="random")
    assert load(folder, min_count=3).fingerprint == load(folder).fingerprint == load(str(folder)).fingerprint
    refused("min_count is 4, but .* with 3", load, folder, min_count=4)
    refused("min_count is 2, but .* with 3", load, folder, min_count=2)  # a default that is asked for
    refused("split_seed is 0, but .* with 1", load, folder, split_seed=0)
    refused("split is order, but .* with random", load, folder, split="order")
    refused("rows is 5, but .* without it", load, folder, rows=5)
    refused("stands alone", load, [folder, text])
    refused("test is .* without it", load, folder, test=[text])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train/ids.npy", lambda path: os.truncate(path, 400)),
        ("test/labels.npy", lambda path: path.unlink()),
        ("counts/3.npy", lambda path: path.write_bytes(b"")),
        ("manifest.json", lambda path: path.write_text("{}")),
        ("manifest.json", lambda path: os.truncate(path, 40)),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"features"', '"fxatures"'))),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"train": ', '"train": 1'))),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, text, name, change):
    folder = prepare([text], tmp_path / "to")
    change(folder / name)
    refused("prepare", load, folder)


@pytest.mark.parametrize("value", [None, 3, [None], {"x": None}], ids=str)
@pytest.mark.parametrize("key", ["options", "num_embeddings", "features", "about", "row0_share", "name", "multi_hot"])
def test_a_value_of_a_wrong_type_is_named(made, key, value):
    folder, manifest = made
    inner = manifest["about"] if key == "multi_hot" else manifest
    text = json.dumps(manifest | ({"about": inner | {key: value}} if inner is not manifest else {key: value}))
    (folder / "manifest.json").write_text(text)
    for options in ({}, {"min_count": 2}):
        refused("prepare the data again", load, folder, **options)


def test_the_very_options_are_no_contradiction(tmp_path):
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path in paths:
        path.write_text("click,id,other\n" + "".join(f"{i % 2},{i % 5},{i % 7}\n" for i in range(60)))
    folder = prepare(paths[:1], tmp_path / "to", test=paths[1], sparse="id,other", label="click")
    for sparse in ("id,other", "id, other", ["id", "other"], ("id", "other")):
        assert load(folder, test=[str(paths[1])], sparse=sparse, label="click", format="csv").features == [
            "id",
            "other",
        ]
    refused("test is .*a.csv, but .* with .*b.csv", load, folder, test=paths[0])
    refused("sparse is id, but .* with id,other", load, folder, sparse="id")
    refused("dense is other, but .* without it", load, folder, dense="other")
    refused("format csv has no option 'drop_negatives'", load, folder, drop_negatives=0.5)
    raw = prepare(write(tmp_path / "c.txt", "".join(lines(300))), tmp_path / "raw", drop_negatives=".5")
    for same in (0.5, "0.5", ".5", "5e-1"):
        load(raw, drop_negatives=same)
    refused("drop_negatives is 0.25, but .* with 0.5", load, raw, drop_negatives=0.25)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, text, monkeypatch):
    def full(self, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrayWriter, "add", full)
    refused("the disk is full", prepare, [text], tmp_path / "to")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_mapped_array_is_the_file_and_stays_as_it_is(tmp_path):
    path = tmp_path / "x.npy"
    with ArrayWriter(path, np.int32, (3,)) as writer:
        writer.add(np.arange(6).reshape(2, 3))
        writer.add(np.zeros((0, 3)))
        writer.add(np.arange(6, 9).reshape(1, 3))
    assert np.load(path).tolist() == mapped(path).tolist() == np.arange(9).reshape(3, 3).tolist()
    torch.from_numpy(mapped(path)).zero_()
    assert np.load(path).sum() == 36


def test_the_manifest_has_the_digests_of_the_files(tmp_path, text):
    from hashlib import sha256

    from embpress.dlrm.data.prepare.manifest import read_manifest

    (file,) = read_manifest(prepare([text], tmp_path / "to"))["files"]
    data = text.read_bytes()
    assert file["sha256"] == sha256(data).hexdigest()
    assert file["bytes"] == file["read_bytes"] == len(data)
