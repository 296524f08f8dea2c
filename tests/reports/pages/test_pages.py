"""Pages beside the report, from made records and from a small comparison."""

import json
import re
import warnings
from dataclasses import replace

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.data import load
from embpress.dlrm.data.hot_rows import hot_rows
from embpress.reports import page_names, write_report
from embpress.reports.pages.hot_rows.data import cache_points

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]
PLOTS = {
    "hot-rows": ["hot_rows_stability.png", "hot_rows_cache.png"],
    "initialisation": ["initial_densities.png", "initial_scales.png"],
}


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def check_tables(text):
    for block in (block.split("\n") for block in text.strip().split("\n\n") if block.startswith("| ")):
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in block}) == 1


def with_counts(run, counts):
    return replace(run, data=replace(run.data, hot_rows=counts))


def with_tt_knobs(run, knobs):
    for table in run.tables:
        if table.method == "tt":
            table.knobs.clear()
            table.knobs.update(knobs)


@pytest.fixture(scope="module")
def counted():
    return json.loads(json.dumps(hot_rows(load(rows=4000, scale=0.001, min_count=1))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = call("compare", *SMALL, "--methods", "full,tt:rank=4", "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_pages_of_a_comparison(folder):
    assert not (folder / "hot-rows.md").exists()
    done = call("report", folder, "--page", "hot-rows", "--page", "initialisation")
    assert done.exit_code == 0, done.output
    report = (folder / "report.md").read_text()
    for name, plots in PLOTS.items():
        text = (folder / f"{name}.md").read_text()
        assert f"]({name}.md)" in report
        assert str(folder / f"{name}.md") in done.stdout
        for plot in plots:
            assert f"](plots/{plot})" in text
            assert is_png(folder / "plots" / plot)
        check_tables(text)
    assert "rank 4" in (folder / "initialisation.md").read_text()
    assert not list(folder.glob(".*"))


def test_the_record_of_every_run_holds_the_counts(folder):
    runs = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    assert len(runs) == 2
    assert runs[0]["data"]["hot_rows"] == runs[1]["data"]["hot_rows"]
    assert len(json.dumps(runs[0]["data"]["hot_rows"])) < 8000


def test_pages_that_are_there_are_made_anew_with_the_report(runs, tmp_path):
    write_report(tmp_path, runs, ["hot-rows"])
    (tmp_path / "hot-rows.md").write_text("old")
    report = write_report(tmp_path, runs).read_text()
    assert (tmp_path / "hot-rows.md").read_text() != "old"
    assert "](hot-rows.md)" in report
    assert "initialisation" not in report
    (tmp_path / "hot-rows.md").unlink()
    assert "More pages" not in write_report(tmp_path, runs).read_text()


def test_records_of_before_say_what_is_missing(runs, tmp_path):
    write_report(tmp_path, runs, page_names())
    assert "hot_rows" in (tmp_path / "hot-rows.md").read_text()
    assert not list((tmp_path / "plots").glob("hot_rows*"))
    # the largest tensor-train table of these records has no shape in them: the default one stands in
    assert is_png(tmp_path / "plots" / "initial_scales.png")


def test_a_run_without_tables_makes_pages(run, tmp_path):
    write_report(tmp_path, [run("full", tables=[])], page_names())
    assert "no shape to draw" in (tmp_path / "initialisation.md").read_text()


def test_one_run_that_knows_is_enough(runs, counted, tmp_path):
    runs[3] = with_counts(runs[3], counted)
    write_report(tmp_path, runs, ["hot-rows"])
    text = (tmp_path / "hot-rows.md").read_text()
    answered = 100 * counted["all"]["hits"][-1] / counted["all"]["test_lookups"]
    assert f"| {answered:.1f} % |" in text
    assert "No run of this report had a cache" in text


def test_names_in_any_script_and_few_rows_leave_no_trace(run, counted, tmp_path, capfd):
    found = json.loads(json.dumps(counted))
    for table, name in zip(found["tables"], ["名前|`x`", "$x_1$ *страна*", "a" * 90, "_hidden", "\x00"]):
        table["feature"] = name
    found["tables"][-1] = {**found["tables"][-1], "test_lookups": 0, "hits": [0] * 13}
    made = with_counts(run("tt"), found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(tmp_path, [made], ["hot-rows"])
    text = (tmp_path / "hot-rows.md").read_text()
    assert "名前\\|\\`x\\`" in text
    check_tables(text)
    assert capfd.readouterr() == ("", "")


def test_no_table_large_enough(run, tmp_path):
    made = with_counts(run("tt"), hot_rows(load(rows=3000, scale=0.00001)))
    write_report(tmp_path, [made], ["hot-rows"])
    assert "No table has 200 rows or more" in (tmp_path / "hot-rows.md").read_text()
    assert not list((tmp_path / "plots").glob("hot_rows*"))


def test_a_measured_hit_rate_is_a_point(run, counted, tmp_path):
    made = with_counts(run("tt:cache_rows=9"), counted)
    made.metrics["cache_hit_rate"] = 0.4
    assert cache_points([made]) == []  # no knob says how large the cache is
    with_tt_knobs(made, {"cache_rows": 9})
    (point,) = cache_points([made])
    sizes = [table.num_embeddings for table in made.tables if table.method == "tt"]
    assert point.fraction == pytest.approx(9 * len(sizes) / sum(sizes))
    assert point.hit_rate == 0.4
    write_report(tmp_path, [made], ["hot-rows"])
    assert "The dots are hit rates" in (tmp_path / "hot-rows.md").read_text()
    with_tt_knobs(made, {"cache_rows": 0, "cache_fraction": 0.01})
    assert cache_points([made])[0].fraction == pytest.approx(0.01)


def test_the_command_offers_every_page_and_refuses_others(folder):
    assert all(f"{name}:" in call("report", "--help").output for name in page_names())
    done = call("report", folder, "--page", "hot-row")
    assert done.exit_code == 2
    assert "did you mean 'hot-rows'" in done.stderr
    done = call("report", folder, "--page", "hot-rows", "--format", "csv")
    assert done.exit_code == 2
    assert "--format csv" in done.stderr
