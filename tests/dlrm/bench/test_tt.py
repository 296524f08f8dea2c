"""TT-Rec's benchmark: its baselines compute the same thing, its counts are right, its files are written."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from embpress.cli.main import main
from embpress.compressors.methods.tt import TTRec
from embpress.dlrm.bench import terabyte as bench_terabyte
from embpress.dlrm.bench.baselines import BmmTable, TensorlyTable, forward_flops, full_table
from embpress.dlrm.bench.case import Context, Row, measured
from embpress.dlrm.bench.inputs import ids_at_hit_rate, training
from embpress.dlrm.bench.peaks import H200
from embpress.dlrm.bench.roofline import TTShape, tt_backward, tt_forward
from embpress.dlrm.bench.step import KAGGLE_ROWS
from embpress.dlrm.bench.suite import chosen
from embpress.dlrm.bench.suites.tt import FULL, LIMITS_US, QUICK, cases
from embpress.dlrm.bench.timing import Gemm, Paired, Times, paired, quartiles
from embpress.dlrm.measure.clock import Clock
from embpress.reports.bench.page import page_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_table(cores=3, rank=5, dim=24, n=1000):
    return TTRec(n, dim, rank=rank, num_cores=cores, dtype=torch.float64, generator=generator())


def rows_and_gradients(module, *inputs):
    rows = module(*inputs)
    module.zero_grad()
    rows.backward(torch.linspace(-1, 1, rows.numel(), dtype=rows.dtype).view(rows.shape))
    return rows.detach(), [core.grad for core in module.cores]


def quick(*names, device=CPU, peak=None):
    context = Context(QUICK, Paired(CPU, 0.01, 2, 0.0))
    context.peak = peak
    return [measured(case, context) for case in chosen(cases(QUICK, device), names)]


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_bmm_baseline_gives_the_same_rows_and_gradients(cores):
    table = small_table(cores)
    ids = torch.randint(1000, (60,), generator=generator(1))
    ids[20:30] = ids[5]  # what the op deduplicates and the baseline does not
    expected, gradients = rows_and_gradients(table, ids, torch.arange(60))
    rows, own = rows_and_gradients(BmmTable(table), ids)
    torch.testing.assert_close(rows, expected)
    for a, b in zip(own, gradients):
        torch.testing.assert_close(a, b)


def test_bmm_baseline_pools_bags_like_the_table():
    table = small_table()
    ids, offsets = torch.randint(1000, (60,), generator=generator(1)), torch.tensor([0, 7, 7, 40])
    expected, gradients = rows_and_gradients(table, ids, offsets)
    rows, own = rows_and_gradients(BmmTable(table), ids, offsets)
    torch.testing.assert_close(rows, expected)
    for a, b in zip(own, gradients):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore")
def test_tensorly_baseline_gives_the_same_rows_and_gradients():
    pytest.importorskip("tltorch", reason="tensorly-torch is not installed")
    table = small_table()
    ids = torch.randint(1000, (60,), generator=generator(1))
    expected, gradients = rows_and_gradients(table, ids, torch.arange(60))
    rows, own = rows_and_gradients(TensorlyTable(table), ids)
    torch.testing.assert_close(rows, expected)
    for a, b in zip(own, gradients):
        torch.testing.assert_close(a, b.transpose(0, 1))


def test_full_table_baseline_sums_its_rows():
    full = full_table(50, 4, generator())
    ids, offsets = torch.tensor([3, 3, 49, 0]), torch.tensor([0, 2])
    torch.testing.assert_close(full(ids, offsets)[0], 2 * full.weight[3])
    training(full, [(ids, offsets)], torch.ones(2, 4))(0)
    assert full.weight.grad.is_sparse


def test_a_training_step_makes_its_gradients_anew():
    table = small_table()
    step = training(table, [(torch.arange(9), torch.arange(9))], torch.ones(9, 24, dtype=torch.float64))
    step(0)
    first = [core.grad.clone() for core in table.cores]
    step(1)
    for before, core in zip(first, table.cores):
        torch.testing.assert_close(core.grad, before)


def test_flops_against_a_hand_count():
    # three cores: 2 (q0 R1 q1 R2 + q0 q1 R2 q2)
    table = TTRec(10_131_227, 64, rank=32, column_factors=(4, 4, 4), device="meta")
    assert forward_flops(table) == 2 * (4 * 32 * 4 * 32 + 4 * 4 * 32 * 4)
    unequal = TTRec(8000, 30, rank=(6, 7), row_factors=(20, 20, 20), column_factors=(3, 2, 5), device="meta")
    assert forward_flops(unequal) == 2 * (3 * 6 * 2 * 7 + 3 * 2 * 7 * 5)


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_flops_against_torchs_counter(cores):
    table = small_table(cores)
    baseline, ids = BmmTable(table), torch.randint(1000, (40,), generator=generator())
    with FlopCounterMode(display=False) as forward:
        rows = baseline(ids)
    assert forward.get_total_flops() == 40 * forward_flops(table)
    with FlopCounterMode(display=False) as backward:
        rows.sum().backward()
    assert backward.get_total_flops() == 2 * 40 * forward_flops(table)


@pytest.mark.parametrize("rate", [0, 0.5, 0.9, 0.99, 1])
@pytest.mark.parametrize("held", [1, 40, 99])
def test_ids_at_a_hit_rate_have_exactly_that_share(rate, held):
    cached = torch.randperm(100, generator=generator())[:held]
    ids = ids_at_hit_rate(cached, 100, 200_000, rate, generator())
    hits = torch.isin(ids, cached)
    assert hits.sum() == round(rate * 200_000)
    assert ids.min() >= 0
    assert ids.max() < 100
    # both kinds are drawn from all of their rows, in no order
    reached = set(ids.tolist())
    if rate not in (0, 1):
        assert reached == set(range(100))
        assert 0 < int(hits[:100_000].sum()) < int(hits.sum())


def test_terabytes_tables_and_kaggles_have_the_published_sums():
    assert len(bench_terabyte.TERABYTE_ROWS) == len(KAGGLE_ROWS) == 26
    assert sum(bench_terabyte.TERABYTE_ROWS) == 204_184_588
    assert sum(KAGGLE_ROWS) == 33_762_577


def test_pairs_take_ratios_repeat_by_repeat():
    times = Times([(1.0, 2.0), (10.0, 40.0), (2.0, 2.0)])
    assert times.ratio(1, 0).median == 2  # of 2, 4 and 1, not 2.0 / 2.0
    assert times.difference(0, 1).median == -1
    assert (quartiles([1, 2, 3, 4, 5]).low, quartiles([1, 2, 3, 4, 5]).high) == (2, 4)


def test_pairs_run_at_least_as_often_as_asked_and_in_turn():
    order = []
    times = paired([lambda i: order.append("a"), lambda i: order.append("b")], 0, Clock(), min_repeats=6, block=0)
    assert len(times.repeats) == 6
    timed = order[-12:]
    assert [sorted(timed[i : i + 2]) for i in range(0, 12, 2)] == [["a", "b"]] * 6
    assert timed[:4] == ["a", "b", "b", "a"]  # neither always follows the other


def test_matrix_product_counts_its_operations():
    gemm = Gemm(8, torch.float64)
    with FlopCounterMode(display=False) as counter:
        assert gemm(0).dtype == torch.float64
    assert counter.get_total_flops() == gemm.flops == 2 * 8**3


def test_names_say_what_they_run():
    names = [case.name for case in cases(FULL, CPU)]
    on_gpu = [case.name for case in cases(FULL, GPU)]
    assert on_gpu[: len(names)] == names
    assert len(set(on_gpu)) == len(on_gpu)
    assert {f"tt-train-B{batch}" for batch in LIMITS_US} <= set(on_gpu)
    for name in ("train-R16", "zipf-R32", "tensorly-B2048-R32", "batch-65536", "latency-B1", "cache-99", "memory-1e9"):
        assert name in names


def test_needed_operations_count_distinct_ids():
    uniform, zipf = quick("train-R32", "zipf-R32")
    assert zipf.setting["distinct"] < uniform.setting["distinct"] <= QUICK.batch
    table = TTRec(QUICK.rows, QUICK.dim, rank=32, device="meta")
    assert uniform.needed_flops == 3 * uniform.setting["distinct"] * forward_flops(table)
    assert uniform.of_peak.median > 0


def test_a_step_needs_the_same_memory_for_any_number_of_rows():
    few, many = quick("memory-1e5", "memory-1e9")
    assert few.status == many.status == "ok"
    batch_rows = 4 * QUICK.batch * QUICK.dim
    assert many.figures["extra_bytes"] < 1.1 * few.figures["extra_bytes"] + batch_rows
    assert many.figures["peak_bytes"] >= many.figures["gradient_bytes"]


@pytest.mark.parametrize("case", [c for c in cases(QUICK, GPU) if c.name.startswith("tt-")], ids=lambda case: case.name)
def test_cases_for_a_gpu_run_here(case):
    (row,) = quick(case.name, device=GPU)
    assert (row.status, row.reason) == ("ok", "")
    assert row.ours_s > 0
    assert row.baseline_s > 0
    assert (row.flops is None) == (row.group == "dlrm")
    assert row.roofline_s is None  # this machine's peaks are not known


def test_a_roofline_is_held_against_our_time():
    (row,) = quick("tt-train-B32", device=GPU, peak=H200)
    shape = TTShape.of(QUICK.rows, 64, 32)
    work = tt_forward(shape, 32) + tt_backward(shape, 32, recompute=False)
    assert row.roofline_s == work.roofline(H200)
    assert row.of_roofline == pytest.approx(row.roofline_s / row.ours_s)
    assert (row.flops, row.moved_bytes) == (work.flops, work.moved)


def test_the_roofline_of_tensor_cores_is_theirs():
    plain, tf32, split = (
        quick(f"tt-train-B64{math}", device=GPU, peak=H200)[0] for math in ("", "-tf32", "-split-tf32")
    )
    assert tf32.flops == plain.flops
    assert split.flops == 3 * plain.flops
    assert split.moved_bytes == plain.moved_bytes
    assert tf32.roofline_s == max(tf32.flops / 494.7e12, tf32.moved_bytes / 4.8e12)


def test_cases_of_the_cache_and_of_what_is_stored(tmp_path):
    rows = quick("cache-*", "recompute-*", "*-cache")
    assert [row.status for row in rows] == ["ok"] * 7
    assert [row.setting["hits"] for row in rows if row.group == "cache"] == [0, 32, 58, 63, 64]
    text = page_of(record_of(rows)).write(tmp_path).read_text()
    assert (tmp_path / "bench-tt.png").exists()
    for row in rows:
        assert f"| {row.name} |" in text


def record_of(rows):
    from dataclasses import asdict

    from embpress.dlrm.measure.environment import environment

    return {
        "suite": "tt", "about": "", "command": "embpress bench tt", "created": "2024-01-01T00:00:00+00:00",
        "environment": environment(), "device": "cpu",
        "backend": {"tt_embedding_bag": "reference"}, "quick": True, "seconds": 1.0, "size": asdict(QUICK),
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip


def test_a_gpu_is_named_on_the_page(tmp_path):
    row = Row("terabyte", "memory", "own process", setting={"rows": 10, "dtype": "float32"})
    row.figures = {"resident_bytes": 4e9}
    record = record_of([row])
    assert "GPU" not in " ".join(page_of(record).sections()[0].headers)
    row.figures["peak_device_bytes"] = 7e9
    record = record_of([row])
    record["environment"] |= {"gpu": "NVIDIA H100", "compute_capability": "9.0", "gpu_memory_bytes": 85e9}
    record["environment"] |= {"gpu_driver": None, "cuda": "13.0"}
    text = page_of(record).write(tmp_path).read_text()
    assert "peak on the GPU" in text
    assert "7.0 GB" in text
    assert "NVIDIA H100, 85.0 GB, compute capability 9.0, CUDA 13.0" in text


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.filterwarnings("ignore")
def test_bench_tt_writes_record_page_and_plot(tmp_path):
    done = call("bench", "tt", "--quick", "--threads", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 100  # the last line is the page's path
    record = json.loads((tmp_path / "bench-tt.json").read_text())
    assert [row["name"] for row in record["rows"]] == [case.name for case in cases(QUICK, CPU)]
    assert not [row for row in record["rows"] if row["status"] == "failed"]
    assert set(record["backend"].values()) <= {"native", "reference"}
    page = (tmp_path / "bench-tt.md").read_text()
    assert record["command"] in page
    assert "(bench-tt.png)" in page
    for row in record["rows"]:
        assert row["name"] in page
        assert row["name"] in done.stdout
    assert (tmp_path / "bench-tt.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench-tt.json", "bench-tt.md", "bench-tt.png"]
    terabyte = next(row for row in record["rows"] if row["name"] == "terabyte")
    assert terabyte["setting"]["tt_tables"] == 13  # of ten thousand rows and more, at any scale
    assert terabyte["figures"]["resident_bytes"] > terabyte["figures"]["ledger_bytes"]
