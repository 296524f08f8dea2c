import io
import json

import pandas as pd
import pytest

from embpress.reports import runs_frame, summary_cells, to_csv, to_json

FIRST = (
    "method,knobs,seed,serving_bytes,training_bytes,ratio,auc,auc_last,log_loss,accuracy,step_ms,train_seconds,"
    "peak_memory_bytes,lookup_p50_us_b1,lookup_p50_us_b128,lookup_p99_us_b128,lookup_p50_us_b2048,"
    "inference_samples_per_s,status,backend,device"
)


def test_csv_starts_with_the_promised_columns(runs):
    assert to_csv(runs).splitlines()[0].startswith(FIRST + ",")


def test_csv_reads_back(runs):
    back = pd.read_csv(io.StringIO(to_csv(runs)))
    assert len(back) == len(runs)
    for row, run in zip(back.to_dict("records"), runs):
        assert (row["method"], row["seed"], row["status"]) == (run.method, run.seed, run.status)
        for name, value in run.metrics.items():
            assert row[name] == pytest.approx(value, rel=1e-12)


def test_counts_stay_whole_beside_missing_ones(run, lost):
    line = to_csv([run("tt:rank=16", knobs={"rank": "16", "share": True, "lr": 0.5}), lost("hash")]).splitlines()[1]
    assert line.startswith("tt:rank=16,rank=16 share=true lr=0.5,0,")
    assert str(run().metrics["serving_bytes"]) in line.split(",")


def test_json_has_null_for_what_is_not_a_number(run, lost):
    text = to_json([run(auc=float("nan"), log_loss=float("inf")), lost("名|x")])
    first, second = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert first["auc"] is None
    assert first["log_loss"] is None
    assert second["method"] == "名|x"
    assert second["serving_bytes"] is None
    assert list(first) == list(runs_frame([]).columns)


def test_an_unknown_metric_becomes_a_column_at_the_end(run):
    one = run()
    one.metrics["surprise"] = 1.5
    assert runs_frame([one]).columns[-1] == "surprise"


def test_cells_fit_into_a_hundred_columns(runs):
    headers, rows, notes = summary_cells(runs, 100)
    assert headers == ["method", "size", "ratio", "AUC", "Δ full", "loss", "step ms", "µs", "status"]
    widths = [max(len(line[i]) for line in [headers, *rows]) for i in range(len(headers))]
    assert sum(widths) + 3 * len(headers) + 1 <= 100
    assert all(len(row) == len(headers) for row in rows)
    assert rows[0][0] == "full"
    assert "lowrank: cannot reach 16×, smallest 4×" in notes
    assert any(note.startswith("dhe:hashes=1024: failed: RuntimeError") for note in notes)


def test_cells_leave_columns_out_where_there_is_no_room(runs):
    headers, rows, _ = summary_cells(runs, 60)
    assert headers[:2] == ["method", "size"]
    assert "AUC" in headers
    assert len({row[0] for row in rows}) == len(rows)


def test_what_serving_costs_is_a_column_where_something_costs(run):
    runs = [run("full"), *(run("tt+bf16", seed, auc=0.74, auc_trained=0.741 + seed * 1e-5) for seed in (0, 1))]
    headers, rows, notes = summary_cells(runs, 120)
    at = headers.index("Δ served")
    assert headers[at - 1] == "Δ full"
    assert [row[at] for row in rows] == ["–", "−0.0010*"]
    assert any(note.startswith("Δ served: test AUC minus") for note in notes)
    assert "Δ served" not in summary_cells(runs, 40)[0]
