"""Records of schema 1, made by hand, are read as those of today."""

import json

import pytest

from embpress.compressors import InputError
from embpress.dlrm.runs.record import Smallest, TableRecord
from embpress.dlrm.runs.store import read

CURVE = {"step": 9, "epoch": 1.0, "train_loss": 0.5, "valid_auc": 0.6, "valid_log_loss": 0.5}
OLD = {
    "schema": "embpress-run/1",
    "id": "tt-rank=4-rows=5x6-s2-0123456789",
    "method": "tt:rank=4:rows=5x6:columns=4x4:cores=2",
    "name": "tt",
    "knobs": {"rank": 4, "cores": 2, "rows": "5x6", "columns": "4x4", "init": "gaussian"},
    "seed": 2,
    "asked": {"ratio": None, "budget": None},
    "status": "ok",
    "reason": None,
    "smallest": None,
    "metrics": {"auc": 0.7, "lookup_p50_us_b1": 3.0, "ratio": None},
    "tables": [
        {"feature": "ad", "num_embeddings": 30, "embedding_dim": 16, "method": "tt", "knobs": {"rank": 4, "cores": 2},
         "serving_bytes": 640, "full_bytes": 1920, "row0_share": 0.5},
        {"feature": "shop", "num_embeddings": 3, "embedding_dim": 16, "method": "full", "knobs": {"rows": 1},
         "serving_bytes": 192, "full_bytes": 192, "row0_share": 0.5},
    ],
    "learning_curve": [CURVE],
    "data": {
        "name": "clicks", "format": "csv", "fingerprint": "f00d", "rows": {"train": 8, "valid": 1, "test": 1},
        "features": ["ad", "shop"], "num_embeddings": [30, 3], "dense": [], "split": "random", "min_count": 2,
        "label_mean": 0.3, "columns": None, "best_auc": None, "row0_share": [0.5, 0.5], "row0_share_total": 0.5,
        "id_frequencies": [], "about": {"split_seed": 0}, "hot_rows": None,
    },
    "model": {"name": "kaggle", "width": 16, "bottom": [1, 64, 16], "top": [64, 1], "min_rows": 200, "largest": None},
    "training": {"optimizer": "adagrad", "learning_rate": 0.02, "batch_size": 256, "epochs": 1},
    "environment": {"threads": 2},
    "backend": "native", "device": "cpu", "predictions": "tt.npy", "command": "embpress train", "created": "2026",
}  # fmt: skip


def read_as_file(tmp_path, record):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(record))
    return read(path)


def test_names_of_today(tmp_path):
    found = read_as_file(tmp_path, OLD)
    assert found.method == "tt:rank=4:row_factors=5x6:column_factors=4x4:num_cores=2"
    shapes = {"rank": 4, "num_cores": 2, "row_factors": "5x6", "column_factors": "4x4", "init": "gaussian"}
    assert found.knobs == shapes
    assert found.tables[0] == TableRecord("ad", 30, 16, "tt", 640, 1920, {"rank": 4, "num_cores": 2}, (), 0.5)
    assert found.tables[1].knobs == {"rows": 1}  # only tt has renamed them
    kept = {"width": 16, "min_rows": 200, "largest": None}
    assert found.model == {"name": "dlrm", "preset": "kaggle", "bottom": [64], "top": [64], **kept}
    assert found.latency_of_seed == 2
    assert found.metrics == {"auc": 0.7, "lookup_p50_us_b1": 3.0}
    assert found.modifiers == ()


def test_plain_tables_are_known_by_name_in_old_records_and_by_the_record_later(tmp_path):
    first = read_as_file(tmp_path, OLD)
    assert [first.is_full, *(table.is_full for table in first.tables)] == [False, False, True]
    assert read_as_file(tmp_path, {**OLD, "name": "full", "method": "full"}).is_full
    later = {**first.to_json(), "schema": "embpress-run/2", "name": "full", "method": "full"}
    assert not read_as_file(tmp_path, later).is_full  # it says so itself
    del later["is_full"]
    assert read_as_file(tmp_path, later).is_full
    assert not read_as_file(tmp_path, {**later, "modifiers": ["bf16"]}).is_full


def test_what_schema_2_measured_before_folding_is_measured_again(tmp_path):
    scores = {"auc": 0.7, "auc_last": 0.69, "log_loss": 0.5, "accuracy": 0.8, "ratio": 4.0}
    second = {**read_as_file(tmp_path, OLD).to_json(), "schema": "embpress-run/2", "metrics": scores}
    plain = read_as_file(tmp_path, second)
    assert (plain.status, plain.metrics, plain.served) == ("ok", scores, ())
    served = read_as_file(tmp_path, {**second, "method": "tt+bf16", "modifiers": ["bf16"]})
    assert served.status == "failed"
    assert "as trained, not as served" in served.reason
    assert served.metrics == {"auc_trained": 0.7, "log_loss_trained": 0.5, "ratio": 4.0}
    of_a_plan = [{**second["tables"][0], "modifiers": ["bf16"]}, second["tables"][1]]
    assert read_as_file(tmp_path, {**second, "method": "plan:p.json", "tables": of_a_plan}).status == "failed"
    assert read_as_file(tmp_path, {**second, "modifiers": ["of-nobody:k=1"]}).status == "failed"


def test_baselines_of_schema_2(tmp_path):
    second = {**read_as_file(tmp_path, OLD).to_json(), "schema": "embpress-run/2"}
    kinds = {name: read_as_file(tmp_path, {**second, "name": name}).is_baseline for name in ("full", "full-tbe", "tt")}
    assert kinds == {"full": True, "full-tbe": True, "tt": False}


def test_robe_and_a_size_out_of_reach(tmp_path):
    smallest = {"bytes": 300, "ratio": 2112 / 300}
    lost = {"status": "cannot reach", "smallest": smallest, "metrics": {}, "tables": []}
    found = read_as_file(
        tmp_path, {**OLD, **lost, "name": "robe", "method": "robe:start=5:ratio=9", "knobs": {"start": 5}}
    )
    assert (found.method, found.knobs) == ("robe:row_offset=5:ratio=9", {"row_offset": 5})
    assert found.smallest == Smallest(300, 7.0)
    assert found.latency_of_seed is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": 3}, "damaged"),
        ({"tables": [{"feature": "x"}]}, "lacks method"),
        ({"schema": "embpress-run/9"}, "schema"),
    ],
)
def test_a_damaged_old_record_is_one_sentence(change, words, tmp_path):
    with pytest.raises(InputError, match=words) as error:
        read_as_file(tmp_path, {**OLD, **change})
    assert "old.json" in str(error.value)
