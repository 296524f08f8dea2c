"""The op benchmark: its rivals compute the same thing, its counts are right, its files are written. Never its speed."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from embpress.cli.main import main
from embpress.compressors import InputError
from embpress.compressors.methods.tt import TTRec
from embpress.dlrm.bench import terabyte as bench_terabyte
from embpress.dlrm.bench.baselines import BmmTable, NotMeasured, TensorlyTable, forward_flops, full_table
from embpress.dlrm.bench.case import QUICK, Case, Context, Row, Size, measured
from embpress.dlrm.bench.inputs import ids_at_hit_rate
from embpress.dlrm.bench.step import KAGGLE_ROWS
from embpress.dlrm.bench.suite import all_cases, chosen
from embpress.dlrm.bench.suites.tt import training
from embpress.dlrm.bench.timing import Gemm, Times, paired, quartiles
from embpress.dlrm.measure.clock import Clock
from embpress.reports.bench.pages.tt import sections, write_page


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_table(cores=3, rank=5, dim=24, n=1000):
    return TTRec(n, dim, rank=rank, num_cores=cores, dtype=torch.float64, generator=generator())


def rows_and_gradients(module, *inputs):
    rows = module(*inputs)
    module.zero_grad()
    rows.backward(torch.linspace(-1, 1, rows.numel(), dtype=rows.dtype).view(rows.shape))
    return rows.detach(), [core.grad for core in module.cores]


def quick(*names, context=None):
    context = context or Context(QUICK, 0.01, least=2, block=0.0)
    return [measured(case, context) for case in chosen(all_cases(context.size), names)]


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_bmm_rival_gives_the_same_rows_and_gradients(cores):
    table = small_table(cores)
    ids = torch.randint(1000, (60,), generator=generator(1))
    ids[20:30] = ids[5]  # what the op deduplicates and the rival does not
    expected, gradients = rows_and_gradients(table, ids, torch.arange(60))
    rows, own = rows_and_gradients(BmmTable(table), ids)
    torch.testing.assert_close(rows, expected)
    for a, b in zip(own, gradients):
        torch.testing.assert_close(a, b)


def test_bmm_rival_pools_bags_like_the_table():
    table = small_table()
    ids, offsets = torch.randint(1000, (60,), generator=generator(1)), torch.tensor([0, 7, 7, 40])
    expected, gradients = rows_and_gradients(table, ids, offsets)
    rows, own = rows_and_gradients(BmmTable(table), ids, offsets)
    torch.testing.assert_close(rows, expected)
    for a, b in zip(own, gradients):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore")
def test_tensorly_rival_gives_the_same_rows_and_gradients():
    pytest.importorskip("tltorch", reason="tensorly-torch is not installed")
    table = small_table()
    ids = torch.randint(1000, (60,), generator=generator(1))
    expected, gradients = rows_and_gradients(table, ids, torch.arange(60))
    rows, own = rows_and_gradients(TensorlyTable(table), ids)
    torch.testing.assert_close(rows, expected)
    for a, b in zip(own, gradients):
        torch.testing.assert_close(a, b.transpose(0, 1))


def test_full_table_rival_sums_its_rows():
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
    rival, ids = BmmTable(table), torch.randint(1000, (40,), generator=generator())
    with FlopCounterMode(display=False) as forward:
        rows = rival(ids)
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
    times = paired([lambda i: order.append("a"), lambda i: order.append("b")], 0, Clock(), least=6, block=0)
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
    names = [case.name for case in all_cases(Size())]
    assert len(set(names)) == len(names)
    for name in ("train-R16", "zipf-R32", "tensorly-B2048-R32", "batch-65536", "latency-B1", "cache-99", "memory-1e9"):
        assert name in names


def test_patterns_choose_cases():
    cases = all_cases(Size())
    assert [case.name for case in chosen(cases, ["latency-*", "train-R?6"])] == [
        "train-R16",
        "latency-B1",
        "latency-B128",
    ]
    assert chosen(cases, []) == cases
    with pytest.raises(InputError, match="'train-R23'; did you mean 'train-R32'"):
        chosen(cases, ["train-R23"])


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


def test_what_a_build_lacks_or_fails_at_is_said_in_its_row(tmp_path):
    def lacks(context, row):
        raise NotMeasured("this build has no wings")

    def fails(context, row):
        raise RuntimeError("not enough memory: 1 | 2")

    rows = [measured(Case(name, "op", "torch.bmm", run), None) for name, run in (("a", lacks), ("b", fails))]
    assert [row.status for row in rows] == ["skipped", "failed"]
    record = record_of(rows)
    (section,) = sections(record)
    assert [line[2] for line in section.cells] == ["skipped", "failed"]
    assert "a: skipped: this build has no wings." in section.notes
    text = write_page(tmp_path, record).read_text()
    assert "not enough memory: 1 \\| 2" in text
    assert not (tmp_path / "bench-tt.png").exists()  # nothing was timed


def test_cases_of_the_cache_and_of_what_is_stored(tmp_path):
    rows = quick("cache-*", "recompute-*", "*-cache")
    assert [row.status for row in rows] == ["ok"] * 7
    assert [row.setting["hits"] for row in rows if row.group == "cache"] == [0, 32, 58, 63, 64]
    text = write_page(tmp_path, record_of(rows)).read_text()
    assert (tmp_path / "bench-tt.png").exists()
    for row in rows:
        assert f"| {row.name} |" in text


def record_of(rows):
    from dataclasses import asdict

    from embpress.dlrm.measure.environment import environment

    return {
        "command": "embpress bench tt", "created": "2024-01-01T00:00:00+00:00", "environment": environment(),
        "backend": {"tt_embedding_bag": "reference"}, "quick": True, "seconds": 1.0, "size": asdict(QUICK),
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip


def test_a_gpu_is_named_on_the_page(tmp_path):
    row = Row("terabyte", "memory", "own process", setting={"rows": 10, "dtype": "float32"})
    row.figures = {"resident_bytes": 4e9}
    record = record_of([row])
    assert "GPU" not in " ".join(sections(record)[0].headers)
    row.figures["peak_device_bytes"] = 7e9
    record = record_of([row])
    record["environment"] |= {"gpu": "NVIDIA H100", "compute_capability": "9.0", "gpu_memory_bytes": 85e9}
    record["environment"] |= {"gpu_driver": None, "cuda": "13.0"}
    text = write_page(tmp_path, record).read_text()
    assert "peak on the GPU" in text
    assert "7.0 GB" in text
    assert "NVIDIA H100, 85.0 GB, compute capability 9.0, CUDA 13.0" in text


def test_one_big_table_is_held_at_a_time():
    context, made = Context(QUICK, 0.01), []
    for key in ("a", "a", "b", "a"):
        context.hold(key, lambda key=key: made.append(key) or nn.Identity())
    assert made == ["a", "b", "a"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.filterwarnings("ignore")
def test_bench_tt_writes_record_page_and_plot(tmp_path):
    done = call("bench", "tt", "--quick", "--threads", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 100  # the last line is the page's path
    record = json.loads((tmp_path / "bench-tt.json").read_text())
    assert [row["name"] for row in record["rows"]] == [case.name for case in all_cases(QUICK)]
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


def test_an_unknown_case_is_refused_with_the_nearest_name(tmp_path):
    done = call("bench", "tt", "--quick", "--cases", "zip-R32", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "no case 'zip-R32'; did you mean 'zipf-R32'?" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "value"), [("--seconds", 0), ("--threads", 0)])
def test_bad_numbers_are_refused(option, value, tmp_path):
    done = call("bench", "tt", "--quick", option, value, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert option in done.stderr


def test_cases_are_listed_without_measuring(tmp_path):
    done = call("bench", "tt", "--cases", "train-*", "--list", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["train-R16", "train-R32", "train-R64"]
    assert not (tmp_path / "out").exists()
