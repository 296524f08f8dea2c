"""Every method: trained, exported, and loaded where embpress cannot be imported."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from embpress.compressors import available, parse, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.export import loader
from embpress.dlrm.export.export import export
from embpress.dlrm.runs import checkpoint
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.record import Run
from embpress.dlrm.training.evaluate import predict
from embpress.dlrm.training.settings import resolve

VARIANTS = (
    "hash:parts=4",
    "robe:z=3:sign=true",
    "tt:rank=3:num_cores=2",
    "tt:rank=4:cache_rows=8:warmup=2:refresh=3",
    "robe+bf16",
    "tt+bf16",
)
METHODS = tuple(map(str, parse_all(",".join((*available(), *VARIANTS)))))
SERVE = """
import json, sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("embpress", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import torch

folders = [Path(argument) for argument in sys.argv[2:]]
sys.path.insert(0, str(folders[0]))
import load

given, found = torch.load(sys.argv[1]), {}
for folder in folders:
    model = load.model(folder)
    answers = [model(given["dense"][:size], given["ids"][:size]) for size in (1, 7, len(given["dense"]))]
    found[str(folder)] = {"answers": answers, "weights": load.weights(folder)}
torch.save(found, sys.argv[1])
assert "embpress" not in sys.modules
"""


@dataclass
class Served:
    """A run, its checkpoint, where it was exported to and the manifest."""

    run: Run
    kept: checkpoint.Checkpoint
    folder: Path
    manifest: dict


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.001, min_count=1)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    settings = replace(resolve(3000, threads=1, min_rows=30, largest=5), latency_seconds=0.0)
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embpress.dlrm.runs.experiment.measure_latency", lambda *_: {})
        steps = list(compare(data, parse_all(",".join(METHODS)), settings, [0], folder, keep_weights=True))
    return {step.run.method: (step.run, checkpoint.checkpoint_path(folder, step.run)) for step in steps}


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    """What trains here, by method."""
    made = {}
    for number, (method, (run, path)) in enumerate(runs.items()):
        if run.ok:
            folder = tmp_path_factory.mktemp("served") / f"{number} é"
            manifest = export(path, folder, onnx=False).manifest
            made[method] = Served(run, checkpoint.read(path), folder, manifest)
    return made


@pytest.fixture(scope="module")
def served(exported):
    def of(method):
        lacking = parse(method).cls.unavailable()
        if lacking is not None:
            pytest.skip(f"{method} does not train here: {lacking}")
        return exported[method]

    return of


@pytest.fixture(scope="module")
def given(data):
    """Dense values, and ids that go through every row of most tables."""
    ids = torch.stack([torch.arange(400) % n for n in data.num_embeddings], dim=1)
    return torch.rand(len(ids), len(data.dense_names), generator=torch.Generator().manual_seed(1)), ids


@pytest.fixture(scope="module")
def found(exported, given, tmp_path_factory):
    """What another process, which cannot import embpress, loads and answers, by folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    torch.save(dict(zip(("dense", "ids"), given)), folder / "file.pt")
    command = [sys.executable, "-c", SERVE, str(folder / "file.pt"), *(str(one.folder) for one in exported.values())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "file.pt")


@pytest.mark.parametrize("method", METHODS)
def test_another_process_without_embpress_predicts_what_was_trained(method, served, given, found):
    one = served(method)
    there = found[str(one.folder)]
    model = one.kept.build()  # unfolded, by the ops that are installed here
    with torch.no_grad():
        trained = torch.sigmoid(model(*given))
    limit = 0.003 if "bf16" in method else 1e-5  # rows rounded by 2^-9, in logits of about 1
    for answer in there["answers"]:
        torch.testing.assert_close(answer, trained[: len(answer)], rtol=0, atol=limit)
    assert float(trained.std()) > 0.01  # answers that differ, so that equality says something
    model.tables = model.tables.fold()
    folded = {name: value for name, value in model.state_dict().items() if not name.endswith("extra_state")}
    assert set(folded) <= set(there["weights"])
    for name, tensor in folded.items():
        assert there["weights"][name].dtype == tensor.dtype
        assert torch.equal(there["weights"][name], tensor), name


@pytest.mark.parametrize("method", METHODS)
def test_the_manifest_is_what_lies_there(method, data, served):
    one = served(method)
    about = json.loads((one.folder / "manifest.json").read_text(encoding="utf-8"))
    assert about == one.manifest | {"created": about["created"]}
    assert about["schema"] == "embpress-export/1"
    assert about["source"]["run"] == one.run.id
    assert about["source"]["metrics"]["auc"] == one.run.metrics["auc"]
    assert about["vocabulary"]["fingerprint"] == data.fingerprint
    assert about["inputs"][1]["columns"] == data.features
    assert about["inputs"][0]["shape"] == ["batch", len(data.dense_names)]
    # bytes: of the record, of each table, of the file
    assert about["bytes"]["tables"] == one.run.metrics["serving_bytes"]
    assert about["bytes"]["ratio"] == one.run.metrics["ratio"]
    assert abs(sum(table["bytes"] for table in about["tables"]) - about["bytes"]["tables"]) <= len(about["tables"])
    for table, recorded in zip(about["tables"], one.run.tables):
        assert (table["name"], table["num_embeddings"]) == (recorded.feature, recorded.num_embeddings)
        assert table["bytes"] == recorded.serving_bytes
        assert any(name.startswith(table["tensors"]) for name in about["tensors"])
    weights = loader.weights(one.folder)
    assert {name: entry["shape"] for name, entry in about["tensors"].items()} == {
        name: list(tensor.shape) for name, tensor in weights.items()
    }
    assert about["bytes"]["weights"] == sum(tensor.nbytes for tensor in weights.values())
    size = (one.folder / "weights.safetensors").stat().st_size
    assert 0 < size - about["bytes"]["weights"] < 10_000  # the header
    assert about["files"]["program"]["largest_difference"] <= about["check"]["limit"]
    assert sorted(path.name for path in one.folder.iterdir()) == [
        "load.py",
        "manifest.json",
        "model.pt2",
        "weights.safetensors",
    ]
    # what each table was asked to be
    compressed = [table for table in about["tables"] if table["num_embeddings"] >= 30]
    assert {table["method"] for table in compressed} == {one.run.name, "full"}
    asked = [table for table in compressed if table["method"] == one.run.name and one.run.name != "full"]
    assert {tuple(m["name"] for m in table["modifiers"]) for table in asked} <= {one.run.modifiers}


def test_weights_and_manifest_say_all_of_a_hashed_table(served):
    """Rows by Weinberger's formula in Python's integers, from what lies in the folder alone."""
    one = served("hash")
    weights, about = loader.weights(one.folder), one.manifest["tables"]
    hashed = [t for t, table in enumerate(about) if table["method"] == "hash"]
    prefix, start, prime = about[hashed[0]]["tensors"], 0, 2038074743
    model = one.kept.build()
    for i, t in enumerate(hashed):
        own = {name: weights[f"{prefix}tables.{i}.{name}"] for name in ("coefficients", "slots")}
        a, b, c, d = own["coefficients"].flatten().tolist()
        ids = torch.tensor([0, 1, 7, about[t]["num_embeddings"] - 1])
        for row, x in zip(model.tables.tables[t].lookup(ids), ids.tolist()):
            x = (x * a + b) % prime
            x = ((x ^ (x >> 15)) * c + d) % prime
            x ^= x >> 15
            assert torch.equal(weights[f"{prefix}part_tables"][start + x % int(own["slots"])], row)
        start += int(own["slots"])
    assert start == len(weights[f"{prefix}part_tables"])


def test_probabilities_are_those_of_the_record(data, served):
    one = served("tt")
    ids, dense = data.test.ids.long(), data.test.dense
    trained = torch.sigmoid(predict(one.kept.build(), data.test))
    torch.testing.assert_close(loader.model(one.folder)(dense, ids), trained, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["full", "hash", "robe", "tt"])
def test_ids_out_of_range_are_refused(method, data, served):
    model = loader.model(served(method).folder)
    ids = torch.zeros(3, len(data.features), dtype=torch.int64)
    dense = torch.rand(3, len(data.dense_names))
    assert model(dense, ids).isfinite().all()
    for column, wrong in ((0, -1), (3, data.num_embeddings[3]), (25, 2**40)):
        bad = ids.clone()
        bad[1, column] = wrong
        with pytest.raises(RuntimeError, match="an id is out of range of its table"):
            model(dense, bad)
