"""What is refused, with a sentence and nothing half-written, and what is left out."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embpress.compressors import InputError, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.export.agreement import ExportRefused
from embpress.dlrm.export.export import export
from embpress.dlrm.export.source import find
from embpress.dlrm.runs import checkpoint, store
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.training.settings import resolve
from embpress.kernels import portable, reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that keep their weights, one that does not, and one that did not end."""
    folder = tmp_path_factory.mktemp("läufe")
    data = load(rows=2000, scale=0.001, min_count=1)
    settings = replace(resolve(2000, threads=1, min_rows=30, largest=3), latency_seconds=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embpress.dlrm.runs.experiment.measure_latency", lambda *_: {})
        specs = parse_all("full,robe:z=4,tt:rank=4:cache_rows=8:warmup=2:refresh=3,robe+bf16,qr,hash:k=3")
        for step in compare(data, specs, settings, [0], folder, "embpress compare there", keep_weights=True):
            assert step.run.ok, step.run.reason
    for run in store.read_all(folder):
        if run.name == "qr":
            checkpoint.checkpoint_path(folder, run).unlink()
        if run.name == "hash":
            checkpoint.checkpoint_path(folder, run).unlink()
            store.save(folder, replace(run, status="failed", reason="the loss is nan by step 3"))
    return folder


def weights(folder, method):
    return find(folder, method)


def nothing_in(folder):
    return list(folder.iterdir()) == []


# --- which run is meant -----------------------------------------------------------------------------------------------


def test_a_run_is_found_by_folder_record_or_file(folder, tmp_path):
    path = find(folder, "robe:z=4")
    assert path.parent == folder / "weights"
    assert find(folder, "robe:z=4", 0) == path
    assert find(folder / "records" / f"{path.stem}.json") == path
    assert find(path) == path
    for kind in ("records", "weights"):
        (tmp_path / kind).mkdir()
        for one in (folder / kind).glob(f"{path.stem}.*"):
            (tmp_path / kind / one.name).write_bytes(one.read_bytes())
    assert find(tmp_path) == tmp_path / "weights" / path.name  # the only one


@pytest.mark.parametrize(
    ("method", "seed", "message"),
    [
        (None, None, r"keeps the weights of .*full seed 0.*robe:z=4 seed 0.*: choose by --method and --seed"),
        ("robe", None, r"has no such run; it has .*robe:z=4 seed 0"),
        ("full", 7, "has no such run"),
        ("qr", None, r"keeps no weights of qr seed 0: .*, embpress compare there --keep-weights"),
        ("hash:k=3", None, r"hash:k=3 seed 0 in .* did not end: the loss is nan by step 3"),
    ],
)
def test_a_folder_says_which_run_cannot_be_exported_and_why(folder, method, seed, message):
    with pytest.raises(InputError, match=message):
        find(folder, method, seed)


def test_what_is_no_run_is_said(folder, tmp_path):
    with pytest.raises(InputError, match=r"no such run folder, record or checkpoint: .*nowhere é"):
        find(tmp_path / "nowhere é")
    with pytest.raises(InputError, match="holds no records"):
        find(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        find(tmp_path / "a.json")
    with pytest.raises(InputError, match="is one run"):
        find(weights(folder, "full"), "full")
    with pytest.raises(InputError, match="no checkpoint of embpress"):
        export(folder / "records" / f"{weights(folder, 'full').stem}.json", tmp_path / "served")


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_left_alone(folder, tmp_path):
    path = weights(folder, "full")
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(InputError, match="is not empty"):
        export(path, tmp_path)
    with pytest.raises(InputError, match=r"mine is a file, a folder is needed"):
        export(path, tmp_path / "mine")
    with pytest.raises(InputError, match=r"served: .*mine is a file, a folder is needed"):
        export(path, tmp_path / "mine" / "served")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["kept"]
    (tmp_path / "empty").mkdir()
    export(path, tmp_path / "empty", onnx=False)
    assert (tmp_path / "empty" / "load.py").exists()


@pytest.mark.parametrize("at", ["weights.safetensors", "model.pt2", "manifest.json"])
def test_a_full_disk_leaves_nothing(folder, tmp_path, monkeypatch, at):
    """Also within the program, where torch would end the process."""
    written = []

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            written.append(len(data))
            if len(written) > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    def opens(path, mode):
        return Full(open(path, mode)) if Path(path).name == at else open(path, mode)

    monkeypatch.setattr("embpress.dlrm.export.export.open", opens, raising=False)
    if at == "manifest.json":

        def no_space(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("embpress.dlrm.export.export.write_json", no_space)
    with pytest.raises(InputError, match=r"cannot write .*served: No space left on device"):
        export(weights(folder, "full"), tmp_path / "a" / "b" / "served", onnx=False)
    assert at == "manifest.json" or len(written) == 3
    assert nothing_in(tmp_path)


# --- what must agree --------------------------------------------------------------------------------------------------


def changed(folder, method, path, change):
    found = checkpoint.read(weights(folder, method))
    checkpoint.save(path, change(found))
    return path


def test_predictions_that_differ_are_refused(folder, tmp_path):
    """Of the run, by one probability of the kept ones; a method that rounds may differ by more."""

    def off(by):
        def change(found):
            predictions = found.predictions.clone()
            predictions[3] += by
            return replace(found, predictions=predictions)

        return change

    out = tmp_path / "out"
    out.mkdir()
    for method, by, refused in (("full", 2e-3, True), ("full", 1e-5, False), ("robe+bf16", 2e-3, False)):
        path = changed(folder, method, tmp_path / "one.pt", off(by))
        if refused:
            with pytest.raises(ExportRefused, match=r"the program predicts .* up to 0\.002 .*trained model.*nothing"):
                export(path, out / "served", onnx=False)
            assert nothing_in(out)
        else:
            export(path, out / f"{method} {by}", onnx=False)
    path = changed(folder, "full", tmp_path / "one.pt", off(float("nan")))
    with pytest.raises(ExportRefused, match="up to inf"):
        export(path, out / "served", onnx=False)


def test_a_program_that_is_not_the_folded_model_is_refused(folder, tmp_path, monkeypatch):
    """By little, within what the rounding of the modifier would explain."""
    form = portable.robe_lookup
    monkeypatch.setattr(portable, "robe_lookup", lambda *arguments: form(*arguments) * 1.02)
    with pytest.raises(ExportRefused, match="from those of the folded model"):
        export(weights(folder, "robe+bf16"), tmp_path / "served", onnx=False)
    assert nothing_in(tmp_path)


def test_an_op_without_portable_form_is_named(folder, tmp_path, monkeypatch):
    def looks(*arguments):
        return reference.robe_lookup(*arguments) if bool(arguments[1].max() >= 0) else None

    monkeypatch.setattr(portable, "robe_lookup", looks)
    with pytest.raises(InputError, match=r"no program in torch.s own ops for .*robe_lookup: "):
        export(weights(folder, "robe:z=4"), tmp_path / "served", onnx=False)
    monkeypatch.delattr(portable, "robe_lookup")
    with pytest.raises(InputError, match="robe_lookup has no portable form"):
        export(weights(folder, "robe:z=4"), tmp_path / "served", onnx=False)
    assert nothing_in(tmp_path)


# --- ONNX -------------------------------------------------------------------------------------------------------------


def test_onnx_answers_alike_and_marks_ids_out_of_range(folder, tmp_path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    runtime = pytest.importorskip("onnxruntime")
    path = weights(folder, "robe:z=4")
    about = export(path, tmp_path / "served").manifest
    assert about["files"]["onnx"]["file"] == "model.onnx"
    assert about["files"]["onnx"]["largest_difference"] < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "served" / "model.onnx"))
    kept = checkpoint.read(path)
    dense, ids = kept.sample.dense.numpy(), kept.sample.ids.long().numpy()
    for size in (1, len(ids)):
        (answer,) = session.run(None, {"dense": dense[:size], "ids": ids[:size]})
        np.testing.assert_allclose(answer, kept.predictions[:size].numpy(), rtol=0, atol=1e-5)
    rows = [table.config.num_embeddings for table in kept.plan.tables]
    compressed = max(range(len(rows)), key=rows.__getitem__)  # any id is some row of ROBE's
    ids = ids[:5].copy()
    ids[2, compressed] = rows[compressed]
    (answer,) = session.run(None, {"dense": dense[:5], "ids": ids})
    assert np.isnan(answer).tolist() == [False, False, True, False, False]


def test_onnx_is_left_out_where_it_lacks_an_op_or_a_package(folder, tmp_path, monkeypatch, capsys):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    path = weights(folder, "tt:rank=4:cache_rows=8:warmup=2:refresh=3")
    about = export(path, tmp_path / "a").manifest
    assert about["files"]["onnx"] == {"file": None, "left_out": "ONNX has no aten.searchsorted"}
    monkeypatch.setattr("embpress.dlrm.export.onnx.installed", lambda name: name != "onnxscript")
    about = export(weights(folder, "full"), tmp_path / "b").manifest
    assert about["files"]["onnx"]["left_out"] == "it needs onnxscript: pip install 'embpress[onnx]'"
    about = export(weights(folder, "full"), tmp_path / "c", onnx=False).manifest
    assert about["files"]["onnx"]["left_out"] == "not asked for"
    for name in "abc":
        assert not list((tmp_path / name).glob("*.onnx*"))
    assert capsys.readouterr().out == ""


def test_an_onnx_file_that_answers_otherwise_is_left_out(folder, tmp_path, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    monkeypatch.setattr("embpress.dlrm.export.export.answers", lambda path, inputs: torch.full((len(inputs[1]),), 0.5))
    made = export(weights(folder, "full"), tmp_path / "served")
    assert "the ONNX file predicts click probabilities up to" in made.manifest["files"]["onnx"]["left_out"]
    assert "model.onnx" not in made.files
