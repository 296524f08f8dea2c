"""The GPU benchmark: its cases run, floors and published times are right, files are written. Never its speed."""

import json

import pytest
import torch
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.bench.case_cuda import QUICK_CUDA, CudaCase, CudaContext, CudaSize, measured_cuda
from embpress.dlrm.bench.peaks import H200
from embpress.dlrm.bench.replay import HOST, Timer
from embpress.dlrm.bench.roofline import TTShape, Work, tt_backward, tt_forward
from embpress.dlrm.bench.suite_cuda import LIMITS_US, cuda_cases
from embpress.dlrm.bench.suites.robe import PAPER_MILLIONS, PAPER_MS, paper_seconds
from embpress.reports.bench.page import page, sections


def context(device="cpu"):
    return CudaContext(device, QUICK_CUDA, Timer(device, repeats=2, block=0.0))


@pytest.mark.parametrize("case", cuda_cases(QUICK_CUDA), ids=lambda case: case.name)
def test_every_case_runs(case, device):
    row = measured_cuda(case, context(device))
    assert (row.status, row.reason if row.status != "ok" else "") == ("ok", "")
    assert row.repeats == 2
    assert row.ours_s > 0
    assert row.setting["rows"] > 0
    assert (row.rival_s is None) == (row.group == "robe backward")  # published only for the paper's sizes
    assert (row.flops is None) == (row.group == "model")


def test_the_timer_takes_the_calls_in_turn_and_varies_their_input():
    seen = []
    timed = Timer("cpu", repeats=3, block=0.0).measure(
        [lambda i: seen.append(("a", i)), lambda i: seen.append(("b", i))]
    )
    assert timed.how == HOST
    assert len(timed.times.repeats) == 3
    warm_up = 4  # and one to see how long it takes
    assert seen[: 2 * warm_up] == [(name, i) for name in "ab" for i in range(warm_up)]
    assert [name for name, _ in seen[2 * warm_up :]] == ["a", "b", "b", "a", "a", "b"]


def test_a_block_holds_as_many_calls_as_its_time_takes():
    seen = []
    Timer("cpu", repeats=1, block=1.0).measure([seen.append])
    assert seen[4:] == list(range(32))


def test_a_floor_is_held_against_our_time():
    on = context()
    on.peak = H200
    row = measured_cuda(cuda_cases(QUICK_CUDA)[0], on)
    shape = TTShape.of(QUICK_CUDA.rows, 64, 32)
    work = tt_forward(shape, 32) + tt_backward(shape, 32, recompute=False)
    assert row.floor_s == work.floor(H200)
    assert row.of_floor == pytest.approx(row.floor_s / row.ours_s)
    assert (row.flops, row.moved_bytes) == (work.flops, work.moved)


def test_the_floor_of_tensor_cores_is_theirs():
    on = context()
    on.peak = H200
    rows = {
        case.name: measured_cuda(case, on) for case in cuda_cases(QUICK_CUDA) if case.name.startswith("tt-train-B64")
    }
    plain, tf32, split = (rows[f"tt-train-B64{math}"] for math in ("", "-tf32", "-split-tf32"))
    assert tf32.flops == plain.flops
    assert split.flops == 3 * plain.flops
    assert split.moved_bytes == plain.moved_bytes
    assert tf32.floor_s == max(tf32.flops / 494.7e12, tf32.moved_bytes / 4.8e12)


def test_published_times_are_scaled_by_memory_bandwidth():
    assert paper_seconds(4 * 10**6, 10, 672e9) == pytest.approx(2.55e-3)
    assert paper_seconds(128 * 10**6, 1000, 2 * 672e9) == pytest.approx(0.54e-3)
    assert paper_seconds(256 * 10**6, 10, 672e9) is None
    assert paper_seconds(5 * 10**6, 10, 672e9) is None
    assert all(len(times) == len(PAPER_MILLIONS) for times in PAPER_MS.values())


def test_a_published_time_is_the_rival_and_ours_is_not_timed_against_another():
    on = context()
    on.peak = H200

    def run(context, row):
        row.rival_s = 1.0
        context.fill(row, lambda i: torch.ones(3).sum(), None, Work(1, 1, 1))

    row = measured_cuda(CudaCase("x", "robe backward", "paper, scaled", run), on)
    assert row.rival_over_ours == pytest.approx(1.0 / row.ours_s)


def test_a_case_that_fails_is_a_row_that_says_so():
    def run(context, row):
        raise RuntimeError("no memory\nmore")

    row = measured_cuda(CudaCase("x", "tt", "torch.bmm", run), context())
    assert (row.status, row.reason) == ("failed", "RuntimeError: no memory")


def test_the_cases_are_those_that_have_limits():
    names = [case.name for case in cuda_cases(CudaSize())]
    assert {f"tt-train-B{batch}" for batch in LIMITS_US} <= set(names)
    assert len(names) == len(set(names)) == 2 + 2 + 2 + 1 + 2 + 4 * 7


def test_the_command_writes_record_and_page(tmp_path):
    given = [
        "bench",
        "cuda",
        "--device",
        "cpu",
        "--quick",
        "--cases",
        "tt-train-B??,robe-lookup-B32",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines()[:-1])) <= 100
    record = json.loads((tmp_path / "bench-cuda.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in record["rows"]] == ["tt-train-B32", "tt-train-B64", "robe-lookup-B32"]
    assert record["schema"] == "embpress-bench-cuda/1"
    text = (tmp_path / "bench-cuda.md").read_text(encoding="utf-8")
    assert text.startswith("# Benchmark")
    assert "no GPU" in text
    assert page(record) == text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so():
    done = CliRunner().invoke(main, ["bench", "cuda"])
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "device cuda" in done.output


def test_the_page_says_how_a_row_was_timed_and_what_its_limit_is():
    row = {
        "name": "tt-train-B10240", "group": "tt", "rival": "torch.bmm", "setting": {}, "status": "ok",
        "reason": "not captured: the host waited", "how": "events", "repeats": 3, "ours_s": 2e-4, "rival_s": 4e-4,
        "rival_over_ours": 2.0, "floor_s": 2e-5, "of_floor": 0.1, "limit_s": 1e-4, "limit_on": "H200 SXM",
    }  # fmt: skip
    failed = {**row, "name": "tt-train-B65536", "status": "failed", "reason": "no memory", "limit_s": None}
    (section,) = sections({"rows": [row, failed]})
    assert section.cells[0] == ["tt-train-B10240", "200", "400", "2.00", "20.0", "10 %", "torch.bmm"]
    assert section.cells[1][1] == "failed"
    assert section.notes == [
        "tt-train-B10240 should stay under 100 µs on an H200 SXM.",
        "tt-train-B10240: by events, not captured: the host waited",
        "tt-train-B65536: failed: no memory",
    ]
