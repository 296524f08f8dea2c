"""Suites of methods against tables on the CPU: every case runs in small, holds its limit, and measures what it says."""

import json

import pytest
import torch
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.compressors import InputError
from embpress.compressors.methods.robe import Robe
from embpress.dlrm.bench import fbgemm, suite
from embpress.dlrm.bench.case import Case, Context, measured
from embpress.dlrm.bench.inputs import LEARNING_RATE, one_table, sets_of_ids, updating
from embpress.dlrm.bench.suites import codes, memory, multihot, serving, sharing, steps
from embpress.dlrm.bench.timing import Paired
from embpress.kernels.reference import robe_elements
from embpress.reports.bench.page import page_of

CPU = torch.device("cpu")
NAMES = ("codes", "compositional", "memory", "multihot", "serving", "sharing", "steps")
BEYOND = 8200  # bytes that two pages of scratch may differ by


def context(size, device=CPU):
    return Context(size, Paired(CPU, 0.0, 1, 0.0), device)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_every_case_runs_and_has_a_setting(name, one_thread):
    module = suite.load(name)
    cases, on = module.cases(module.QUICK, CPU), context(module.QUICK)
    for case in cases:
        row = measured(case, on)
        if row.status == "skipped":
            assert any(package in row.reason for package in ("fbgemm_gpu", "torchrec"))
            continue
        assert (row.status, row.reason) == ("ok", ""), case.name
        assert row.limit == case.limit
        assert row.setting
        assert (row.ratio is None) == (name == "memory")  # where nothing is timed


def limits(cases):
    return {case.name: case.limit for case in cases}


def test_limits_are_said_of_the_cases():
    found = limits(steps.cases(steps.FULL, CPU))
    assert (found["hash"], found["tt"], found["mlet:k=64"], found["full"]) == (1.15, 1.3, 1.15, 0.7)
    found = limits(serving.cases(serving.FULL, CPU))
    assert [found[f"robe-B{batch}"] for batch in (1, 128, 2048)] == [1.5, 1.3, 1.3]
    assert (found["tt-B128"], found["full+int4-B1"], found["tt+int4-B1"]) == (3.0, 1.5, None)
    assert set(limits(codes.cases(codes.FULL, CPU)).values()) == {0.6, 1.0}
    found = limits(sharing.cases(sharing.FULL, CPU))
    assert {limit for name, limit in found.items() if name.startswith("lookup") and "Z" not in name} == {1.5}
    assert set(limits(multihot.cases(multihot.FULL, CPU)).values()) == {None}


def test_a_limit_is_of_a_cpu():
    case = Case("x", "op", "y", lambda context, row: None, 0.8)
    assert measured(case, context(memory.QUICK)).limit == 0.8
    assert measured(case, context(memory.QUICK, torch.device("meta"))).limit is None


@pytest.mark.parametrize(("ratio", "cell"), [(2.0, "0.50× ≤ 0.80×"), (1.25, "0.80× ≤ 0.80×"), (1.0, "1.00× > 0.80×")])
def test_a_page_holds_times_against_their_limit(ratio, cell):
    def run(context, row):
        row.ratio = vars(context)["ratio"]

    on = context(memory.QUICK)
    on.ratio = {"low": ratio, "median": ratio, "high": ratio}
    rows = [vars(measured(Case(name, "op", "y", run, limit), on)) for name, limit in (("a", 0.8), ("b", None))]
    record = {"suite": "compositional", "about": "", "rows": rows}
    (section,) = page_of(record).sections()
    at = section.headers.index("ours / baseline")
    assert [line[at] for line in section.cells] == [cell, f"{1 / ratio:.2f}×"]
    assert "against" not in section.headers  # all rows have the same
    assert "The baseline: y." in section.notes
    rows[0]["limit"] = None
    (section,) = page_of(record).sections()
    assert "ours / baseline" not in section.headers
    assert "against" in section.headers


def test_what_all_rows_have_in_common_is_said_below_them():
    def made(name, **setting):
        return vars(measured(Case(name, "op", "y", lambda context, row: row.setting.update(setting)), on))

    on = context(memory.QUICK)
    rows = [made("a", rows=4000, dim=8, batch=1), made("b", rows=4000, dim=8, batch=2), made("c")]
    (section,) = page_of({"suite": "compositional", "about": "", "rows": rows}).sections()
    assert section.notes == ["All of these: rows 4,000, dim 8."]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_the_command_writes_a_page(name, tmp_path):
    first = suite.load(name).cases(suite.load(name).QUICK, CPU)[-1].name
    done = CliRunner().invoke(main, ["bench", name, "--quick", "--cases", first, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 100
    (row,) = json.loads((tmp_path / f"bench-{name}.json").read_text(encoding="utf-8"))["rows"]
    assert row["name"] == first
    assert first in (tmp_path / f"bench-{name}.md").read_text(encoding="utf-8")


def test_memory_beyond_gradients_does_not_grow_with_the_table(one_thread):
    on = context(memory.QUICK)
    rows = [measured(case, on) for case in memory.cases(memory.QUICK, CPU)]
    small, large = memory.QUICK.rows
    found = {(row.setting["method"], row.setting["rows"], row.setting["batch"]): row.figures for row in rows}
    assert len(found) == 4 * 2 * 2
    for (method, count, batch), figures in found.items():
        if count == large:
            before = found[method, small, batch]
            assert figures["table_bytes"] > before["table_bytes"] + 2 * BEYOND
            for name in ("lookup_extra_bytes", "step_extra_bytes"):
                assert figures[name] <= before[name] + BEYOND, (method, batch, name)


def test_sparse_gradients_of_robe_are_the_dense_ones():
    table = Robe(300, 16, z=4, size=200, generator=generator())
    ids, grad = torch.randint(300, (40,), generator=generator(1)), torch.randn(40, 16, generator=generator(2))
    table.lookup(ids).backward(grad)
    index = robe_elements(ids, table.constants.on(CPU, "coefficients"), 200, 4, 16)[0].flatten()
    sparse = sharing.sparse_gradient(index, grad, 200)
    assert sparse.is_coalesced()
    torch.testing.assert_close(sparse.to_dense(), table.memory.grad)


def test_an_updating_step_is_a_step_of_sgd():
    table, optimizers = one_table("hash:k=7", 50, 4, context(memory.QUICK))
    before, ids = table.own("part_tables").detach().clone(), torch.arange(50).view(-1, 1)
    updating(table, optimizers, [(ids,)], torch.ones(50, 4))(0)
    # every lookup takes the learning rate off its row
    torch.testing.assert_close(table.own("part_tables").detach().sum(), before.sum() - LEARNING_RATE * 50 * 4)
    assert not any(p.grad is not None and p.grad.any() for one in optimizers for p in one.param_groups[0]["params"])


def test_so_many_sets_of_ids_that_rows_leave_the_cache():
    assert sets_of_ids(10**7, 64, 8192) * 8192 * 64 * 4 >= 2**30
    assert sets_of_ids(10**5, 64, 1024) == 98  # as many ids as rows
    assert sets_of_ids(10, 64, 1024) == 16


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_of_torchs_quantized_bags_are_codes_and_ranges(bits):
    table = fbgemm.rows_with_ranges(20, 8, bits)
    op = getattr(torch.ops.quantized, f"embedding_bag_{'byte' if bits == 8 else '4bit'}_rowwise_offsets")
    found = op(table, torch.arange(20), torch.arange(21), include_last_offset=True)
    code = table[:, :8] if bits == 8 else torch.stack([table[:, :4] & 15, table[:, :4] >> 4], 2).flatten(1)
    own = torch.tensor([1e-5, -1e-3], dtype=torch.float32 if bits == 8 else torch.float16).float()
    torch.testing.assert_close(found, code * own[0] + own[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_coded_tables_are_drawn_near_a_full_tables_rows(bits):
    table = codes.coded_table(5000, 16, bits, context(codes.QUICK))
    rows = table.lookup(torch.arange(5000))
    bound = 5000**-0.5
    assert table.ledger().serving_bytes < 5000 * 16 * (bits / 8) + 2000
    assert rows.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)  # uniform on ± bound
    assert rows.abs().max() < 1.1 * bound


@pytest.mark.parametrize(
    ("module", "mistake"), [(multihot, {"bags": 0}), (multihot, {"methods": "no"}), (memory, {"dim": 0})]
)
def test_mistakes_are_refused_before_anything_is_built(module, mistake):
    with pytest.raises(InputError):
        module.cases(module.Size(**mistake), CPU)
