"""ROBE's benchmark: its cases run, published times are right, its files are written. Never its speed."""

import json

import pytest
import torch
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.bench.case import Case, Context, measured
from embpress.dlrm.bench.peaks import H200
from embpress.dlrm.bench.roofline import Work
from embpress.dlrm.bench.sharing_paper import BY_RATIO, BY_Z, DENSE, MILLIONS, dense_seconds, published
from embpress.dlrm.bench.suites.robe import FULL, QUICK, Size, backward_case, cases
from embpress.dlrm.bench.timing import Paired

CPU = torch.device("cpu")


def context(size=QUICK):
    return Context(size, Paired(CPU, 0.0, 2, 0.0))


@pytest.mark.parametrize("case", cases(QUICK, CPU), ids=lambda case: case.name)
def test_every_case_runs(case):
    row = measured(case, context())
    if row.baseline.startswith("FBGEMM") and row.status == "skipped":
        pytest.skip(row.reason)
    assert (row.status, row.reason) == ("ok", "")
    assert (row.how, row.repeats) == ("paired repeats", 2)
    assert row.ours_s > 0
    assert row.setting["rows"] > 0
    assert (row.baseline_s is None) == (row.group == "backward")  # published only for the paper's sizes
    assert (row.flops is None) == row.name.startswith("step")
    assert (row.limit is None) == (row.group != "2 GB")


def test_the_cases_are_the_papers_and_have_names_of_their_own():
    names = [case.name for case in cases(FULL, CPU)]
    assert len(names) == len(set(names)) == 2 + 3 + 4 * 7
    assert len(cases(FULL, torch.device("cuda"))) == 2 + 4 * 7


def test_published_times_are_scaled_by_memory_bandwidth():
    assert dense_seconds(4 * 10**6, 10, 672e9) == pytest.approx(2.55e-3)
    assert dense_seconds(128 * 10**6, 1000, 2 * 672e9) == pytest.approx(0.54e-3)
    assert dense_seconds(256 * 10**6, 10, 672e9) is None
    assert dense_seconds(5 * 10**6, 10, 672e9) is None
    every = [times for series in (*BY_RATIO.values(), *BY_Z.values()) for times in series.values()]
    assert len(every) == 24
    assert all(len(times) == len(MILLIONS) for times in every)
    assert published(BY_Z[DENSE], 4, 16 * 10**6) == 1.54
    assert published(BY_Z[DENSE], 8, 16 * 10**6) is None


def test_a_published_time_is_the_baseline_and_ours_is_timed_against_no_other():
    on = context()
    on.peak = H200

    def run(context, row):
        row.baseline_s = 1.0
        context.fill(row, lambda i: torch.ones(3).sum(), work=Work(1, 1, 1))

    row = measured(Case("x", "backward", "paper, scaled", run), on)
    assert row.ratio.median == pytest.approx(1.0 / row.ours_s)
    assert row.ratio.low <= row.ratio.median <= row.ratio.high


def test_an_array_that_only_a_gpu_holds_is_left_out_here():
    row = measured(backward_case(256 * 10**6, 10), context(Size()))
    assert row.status == "skipped"
    assert "13.1 GB" in row.reason


def test_the_command_writes_record_and_page(tmp_path):
    arguments = ["bench", "robe", "--quick", "--cases", "*lookup-B??,robe-back-40000-10x", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines()[:-1])) <= 100
    record = json.loads((tmp_path / "bench-robe.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in record["rows"]] == ["robe-lookup-B32", "robe-lookup-B64", "robe-back-40000-10x"]
    text = (tmp_path / "bench-robe.md").read_text(encoding="utf-8")
    assert "10000x sharing (Desai and Shrivastava), Table 2" in text
    assert "robe_lookup: " in text
    assert "tt_embedding_bag" not in text
