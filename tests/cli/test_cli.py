"""The commands as a user meets them: what they print, write and refuse."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from embpress.cli.main import commands, main
from embpress.dlrm.sets import DEFAULT, specs_of

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]
RUNS = 2 * len(specs_of(DEFAULT))
DATA = {"rows": 4000, "scale": 0.001, "min_count": 1}
COLUMNS = [
    "method", "knobs", "seed", "serving_bytes", "training_bytes", "ratio", "auc", "auc_last", "log_loss", "accuracy",
    "step_ms", "train_seconds", "peak_memory_bytes", "lookup_p50_us_b1", "lookup_p50_us_b128", "lookup_p99_us_b128",
    "lookup_p50_us_b2048", "inference_samples_per_s", "status", "backend", "device",
]  # fmt: skip


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    """The one sentence of a command that must end with status 2 and no traceback."""
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    return lines[-1]


def records(folder):
    return {path.stem: json.loads(path.read_text()) for path in (Path(folder) / "records").glob("*.json")}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = call("compare", *SMALL, "--ratio", "5", "--seeds", "2", "--out", folder)
    assert done.exit_code == 0, done.output
    return folder, done


def test_help_reads_well():
    done = call("--help")
    assert done.exit_code == 0
    for name, text in commands().items():
        assert name in done.output
        assert text.split()[0] in done.output
    for name in ("compare", "train", "report"):
        assert "Examples:" in call(name, "--help").output


def test_compare_trains_the_default_set_and_names_the_report(run_folder):
    folder, done = run_folder
    runs = records(folder)
    assert sorted({r["method"] for r in runs.values()}) == sorted(specs_of(DEFAULT))
    assert {r["seed"] for r in runs.values()} == {0, 1}
    assert all(r["status"] == "ok" for r in runs.values())
    assert str(folder / "report.md") in done.stdout.replace("\n", "")
    for method in specs_of(DEFAULT):
        assert method in done.stdout
    for run in runs.values():
        metrics = run["metrics"]
        assert metrics["ratio"] == pytest.approx(metrics["full_bytes"] / metrics["serving_bytes"])
        assert metrics["full_bytes"] == sum(4 * 16 * n for n in run["data"]["num_embeddings"])
        if run["asked"]["ratio"] is not None:
            assert metrics["ratio"] >= 5
        assert sum(t["serving_bytes"] for t in run["tables"]) == pytest.approx(metrics["serving_bytes"], abs=26)


def test_records_hold_what_later_questions_need(run_folder):
    folder, _ = run_folder
    for run in records(folder).values():
        predictions = np.load(folder / "records" / run["predictions"], allow_pickle=False)
        assert predictions.shape == (run["data"]["rows"]["test"],)
        assert ((predictions > 0) & (predictions < 1)).all()
        assert [point["epoch"] for point in run["learning_curve"]][-1] == 1
        frequencies = run["data"]["id_frequencies"]
        assert len(frequencies) == 26
        assert all(sum(table["lookups"]) == run["data"]["rows"]["train"] for table in frequencies)


def test_auc_of_the_record_is_the_auc_of_its_predictions(run_folder):
    from embpress.dlrm.data import load

    folder, _ = run_folder
    labels = load(**DATA).test.labels.numpy().astype(bool)
    for run in records(folder).values():
        p = np.load(folder / "records" / run["predictions"]).astype(float)
        # probability that a click scores above a non-click, ties half
        over = (p[labels][:, None] > p[~labels]).mean() + 0.5 * (p[labels][:, None] == p[~labels]).mean()
        assert run["metrics"]["auc"] == pytest.approx(over, abs=1e-4)


def test_seeds_are_paired(run_folder):
    """Seed s fixes data order and MLPs for all methods: at equal width the same seed gives the same dense start."""
    from embpress.compressors import parse
    from embpress.dlrm.data import load
    from embpress.dlrm.runs.experiment import build_model, build_tables
    from embpress.dlrm.training.settings import resolve

    data, settings = load(**DATA), resolve(4000, ratio=5.0)
    models = [build_model(data, build_tables(data, parse(m), settings, 1), settings, 1) for m in ("full", "tt", "robe")]
    for other in models[1:]:
        for a, b in zip(models[0].bottom.parameters(), other.bottom.parameters()):
            assert (a == b).all()
        for a, b in zip(models[0].top.parameters(), other.top.parameters()):
            assert (a == b).all()


def test_report_csv_is_one_row_a_run_and_nothing_else(run_folder):
    folder, _ = run_folder
    done = call("report", folder, "--format", "csv")
    frame = pd.read_csv(io.StringIO(done.stdout))
    assert list(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert len(frame) == RUNS
    assert done.stderr == ""
    assert len(json.loads(call("report", folder, "--format", "json").stdout)) == RUNS


def test_report_is_made_again_from_records_alone(run_folder):
    folder, _ = run_folder
    before = (folder / "report.md").read_text()
    (folder / "report.md").unlink()
    assert call("report", folder).exit_code == 0
    assert (folder / "report.md").read_text() == before
    for name in ("auc_vs_size", "learning_curves", "lookup_latency"):
        assert (folder / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_runs_nothing_twice(run_folder):
    folder, _ = run_folder
    times = {p: p.stat().st_mtime_ns for p in (folder / "records").iterdir()}
    done = call("compare", *SMALL, "--ratio", "5", "--seeds", "2", "--out", folder)
    assert done.exit_code == 0
    assert done.stderr.count("kept from before") == RUNS
    assert f"joins {RUNS} runs in {folder}" in done.stdout
    assert times == {p: p.stat().st_mtime_ns for p in (folder / "records").iterdir()}


def test_another_ratio_joins_the_folder_and_full_tables_are_not_run_again(tmp_path):
    for ratio, kept in (("4", 0), ("5", 1)):
        done = call("compare", *SMALL, "--methods", "full,hash", "--ratio", ratio, "--out", tmp_path)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("kept from before") == kept
    assert sorted(str(r["asked"]["ratio"]) for r in records(tmp_path).values()) == ["4.0", "5.0", "None"]
    assert "hash @4×" in (tmp_path / "report.md").read_text()


def test_a_killed_compare_goes_on_where_it_stopped(tmp_path):
    folder = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "embpress.cli.main",
        "compare",
        *SMALL,
        "--methods",
        "full,hash,qr",
        "--seeds",
        "2",
    ]
    command += ["--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list(folder.glob("records/*.json")) and time.time() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p: p.stat().st_mtime_ns for p in (folder / "records").glob("*.json")}
    assert 1 <= len(kept) < 6
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(records(folder)) == 6
    assert done.stderr.count("kept from before") == len(kept)
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    assert not list((folder / "records").glob(".writing-*"))
    assert (folder / "report.md").exists()


def test_train_is_one_run(tmp_path):
    done = call("train", *SMALL, "--method", "tt:rank=2", "--seed", "3", "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    (run,) = records(tmp_path / "one").values()
    assert (run["method"], run["seed"], run["knobs"]["rank"]) == ("tt:rank=2", 3, 2)


def test_a_nan_loss_is_a_failed_row(tmp_path):
    done = call("compare", *SMALL, "--methods", "full,robe", "--optimizer", "sgd", "--lr", "1e30", "--out", tmp_path)
    assert done.exit_code == 1
    assert all(r["status"] == "failed" and "loss is" in r["reason"] for r in records(tmp_path).values())
    assert "failed" in (tmp_path / "report.md").read_text()


def test_a_method_that_cannot_reach_the_ratio_is_a_row(tmp_path):
    done = call("compare", *SMALL, "--methods", "hash,mlet", "--width", "8", "--ratio", "10", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    rows = {r["name"]: r for r in records(tmp_path).values()}
    assert rows["hash"]["status"] == "ok"
    assert rows["mlet"]["status"] == "cannot reach"
    assert "smallest reachable 8×" in rows["mlet"]["reason"]
    assert "smallest 8×" in (tmp_path / "report.md").read_text()


def test_a_ratio_that_no_method_can_reach_is_refused_with_the_smallest_size(tmp_path):
    message = refused("compare", *SMALL, "--methods", "full,tt,mlet", "--ratio", "1e6", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "cannot reach 1,000,000×" in message
    assert "smallest reachable" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothere.csv"], ["nothere.csv", "does not exist"]),
        (["--methods", "rob"], ["'rob'", "did you mean 'robe'"]),
        (["--methods", "tt:rnk=3"], ["'rnk'", "did you mean 'rank'"]),
        (["--methods", "tt:rank=big"], ["rank", "'big'"]),
        (["--methods", "tt:rank"], ["name=value"]),
        (["--methods", "full,full"], ["twice"]),
        (["--methods", "hash:parts=3"], ["16", "3 parts"]),
        (["--ratio", "0.5"], ["at least 1"]),
        (["--ratio", "many"], ["number", "'many'"]),
        (["--budget", "10X"], ["budget"]),
        (["--ratio", "4", "--budget", "1M"], ["not both"]),
        (["--seeds", "0"], ["--seeds"]),
        (["--preset", "kagle"], ["did you mean 'kaggle'"]),
        (["--model", "dlrn"], ["did you mean 'dlrm'"]),
        (["--optimizer", "adagrd"], ["did you mean 'adagrad'"]),
        (["--device", "cuda"], ["cuda"]),
        (["--epochs", "0"], ["epochs"]),
        (["--largest", "0"], ["largest", "at least 1"]),
        (["--min-rows", "-3"], ["--min-rows", "at least 0"]),
    ],
)
def test_mistakes_are_one_sentence(arguments, words, tmp_path):
    message = refused("compare", *SMALL, "--out", tmp_path, *arguments)
    for word in words:
        assert word.lower() in message.lower()
    assert not list(tmp_path.glob("records/*"))


def test_an_unknown_command_and_a_folder_without_records(tmp_path):
    assert "did you mean 'compare'" in refused("comprae")
    assert "no such run folder" in refused("report", tmp_path / "nowhere")
    assert "holds no records" in refused("report", tmp_path)


def test_an_out_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    message = refused("compare", *SMALL, "--out", tmp_path / "file" / "runs")
    assert f"{tmp_path / 'file'} is a file" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [("{ not json", ["damaged"]), ('{"some": "thing"}', ["not a record"]), ('{"schema": "embpress-run/1"}', ["lacks"])],
)
def test_a_damaged_or_foreign_record_is_named(run_folder, tmp_path, content, words):
    bad = tmp_path / "runs" / "records" / "bad.json"
    bad.parent.mkdir(parents=True)
    bad.write_text(content)
    for command in (["report", tmp_path / "runs"], ["compare", *SMALL, "--out", tmp_path / "runs"]):
        message = refused(*command)
        assert str(bad) in message
        assert all(word in message for word in words)


def test_a_full_disk_is_one_sentence_and_leaves_the_records(run_folder, monkeypatch):
    import errno

    import embpress.reports

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, _ = run_folder
    monkeypatch.setattr(embpress.reports, "write_report", full)
    message = refused("report", folder)
    assert "No space left on device" in message
    assert len(records(folder)) == RUNS


def test_runs_on_other_data_or_settings_do_not_mix(run_folder):
    folder, _ = run_folder
    assert "other data" in refused("compare", "--rows", "2500", "--out", folder)
    assert "learning rate" in refused("compare", *SMALL, "--lr", "0.5", "--out", folder)


def test_one_class_in_the_test_part(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("click,ad\n" + "".join(f"{int(i < 10)},{i % 7}\n" for i in range(50)))
    message = refused("compare", path, "--split", "order", "--out", tmp_path / "out")
    assert "test part" in message
    assert "both labels" in message


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("empty.csv", "", [], ["empty.csv", "empty"]),
        ("short.txt", "\t".join("0" * 40) + "\n0\t1\t2\n", ["--format", "criteo"], ["short.txt", "line 2", "40"]),
        ("label.csv", "click,ad\n0,a\n7,b\n", [], ["label.csv", "7"]),
        ("label.libfm", "1 3:1 4:1\n2 3:1 5:1\n", [], ["label.libfm", "line 2", "2"]),
        ("dense.csv", "click,age,ad\n0,1,a\n1,old,b\n", ["--dense", "age"], ["dense.csv", "line 3", "age", "old"]),
        ("column.csv", "click,age,ad\n0,1,a\n1,2,b\n", ["--dense", "agee"], ["agee", "did you mean 'age'"]),
        ("strange.bin", "what is this\n", [], ["strange.bin", "--format"]),
    ],
)
def test_a_wrong_file_is_named_with_the_place(name, content, options, words, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    message = refused("compare", path, *options, "--out", tmp_path / "out")
    for word in words:
        assert word in message
    assert not (tmp_path / "out").exists()


def test_unicode_names_survive(tmp_path):
    path = tmp_path / "клики 点击.csv"
    rows = "".join(f"{int(i % 3 == 0)},{'日本' if i % 2 else 'ñandú'},{i % 11}\n" for i in range(400))
    path.write_text("click,страна,ad|id\n" + rows, encoding="utf-8")
    done = call("compare", path, "--methods", "full,hash:k=3", "--min-rows", "1", "--out", tmp_path / "выход")
    assert done.exit_code == 0, done.output
    assert "страна" in (tmp_path / "выход" / "report.md").read_text()


def test_list_shows_every_method_with_knobs():
    from embpress.compressors import available, method

    shown = call("list").stdout
    for name in available():
        (line,) = (line for line in shown.splitlines() if line.startswith(f"{name} "))
        assert (" yes " in line) == method(name).tags.from_dense
    assert "rank=32" in shown
    assert "from_dense" in shown


def test_doctor_names_the_backends():
    shown = call("doctor").stdout
    for word in ("torch", "op tt_embedding_bag", "full-tbe", "CUDA"):
        assert word in shown
