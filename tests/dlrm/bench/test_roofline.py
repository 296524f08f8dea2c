"""Rooflines: counted operations against torch's own counter, counted bytes against a small case worked out by hand."""

import math

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from embpress.cli.main import main
from embpress.dlrm.bench.peaks import A100, H100, H200, peak_of
from embpress.dlrm.bench.roofline import (
    TTShape,
    Work,
    expected_distinct,
    gather,
    mlet_backward,
    mlet_forward,
    qr_backward,
    qr_forward,
    robe_backward,
    robe_forward,
    robe_size,
    scatter,
    tt_backward,
    tt_forward,
)
from embpress.dlrm.bench.suites import roofline
from embpress.kernels import reference


def counted(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("num_cores", [2, 3, 4])
def test_products_of_a_tensor_train_are_those_that_torch_counts(num_cores):
    n, lookups = 1000, 37
    shape = TTShape.of(n, 24, 5, num_cores)
    sizes = zip(shape.row_factors, shape.column_factors, shape.ranks, shape.ranks[1:])
    tensors = [torch.randn(p, before, q, after) for p, q, before, after in sizes]
    ids = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:lookups].view(-1, 1)
    others = ([n], [], num_cores, False, True)
    forward = counted(lambda: reference.tt_embedding_bag(tensors, [], ids, None, None, *others))
    assert tt_forward(shape, lookups).flops == forward > 0
    grad, nothing = torch.randn(lookups, 1, 24), torch.zeros(0)
    backward = counted(
        lambda: reference.tt_embedding_bag_backward(grad, tensors, [], ids, None, None, nothing, nothing, *others)
    )
    # the plain op makes the partial products again
    assert tt_backward(shape, lookups).flops == backward
    assert tt_backward(shape, lookups, recompute=False).flops == backward - forward
    assert shape.elements == sum(tensor.numel() for tensor in tensors)


def test_products_that_lookups_share_are_counted_once():
    shape = TTShape((2, 3, 5), (2, 2, 2), (1, 4, 4, 1))
    first, last = 2 * 2 * 4 * 2 * 4, 2 * 4 * 4 * 2 * 1
    everything = tt_forward(shape, 10**6, grouped=True)  # meets every pair of first digits and every row
    assert everything.flops == pytest.approx(6 * first + 30 * last)
    assert tt_forward(shape, 1, grouped=True).flops == pytest.approx(first + last)
    assert tt_forward(shape, 7).flops == 7 * (first + last)


def test_products_of_mlet_are_those_that_torch_counts():
    n, k, dim, lookups = 50, 12, 6, 9
    table, projection = torch.randn(n, k, requires_grad=True), torch.randn(k, dim, requires_grad=True)
    ids, rows = torch.arange(lookups), []
    assert mlet_forward(n, k, dim, lookups).flops == counted(lambda: rows.append(F.embedding(ids, table) @ projection))
    want = counted(lambda: rows[0].backward(torch.ones(lookups, dim)))
    assert mlet_backward(n, k, dim, lookups, sparse=True).flops == want > 0


def test_bytes_of_a_small_tensor_train_by_hand():
    """Cores (2, 1, 2, 3) and (3, 3, 2, 1): 12 and 18 floats, all touched by 1000 lookups; rows are 4 floats wide."""
    shape = TTShape((2, 3), (2, 2), (1, 3, 1))
    forward, backward = tt_forward(shape, 1000), tt_backward(shape, 1000)
    assert forward.read == pytest.approx(8 * 1000 + 4 * (12 + 18))
    assert forward.written == 4 * 4 * 1000
    assert backward.read == pytest.approx((8 + 16) * 1000 + 4 * 30)
    assert backward.written == 4 * 30
    one = tt_forward(shape, 1)
    assert one.read == pytest.approx(8 + 4 * (6 + 6))  # a slice of each core
    assert forward + backward == Work(
        forward.flops + backward.flops, forward.read + backward.read, forward.written + backward.written
    )


def test_bytes_of_the_other_ops_by_hand():
    # 3 rows of width 4, 1000 lookups: every row is read
    assert gather(3, 4, 1000) == Work(0, pytest.approx(8000 + 48), 16000)
    assert scatter(3, 4, 1000, sparse=True) == Work(0, 24000, 24000)
    assert scatter(3, 4, 1000, sparse=False) == Work(4000, 24000, 48)
    # an array of 40 floats, wholly touched; rows of width 6
    assert robe_forward(40, 6, 4, 10_000) == Work(0, pytest.approx(80_000 + 160), 240_000)
    assert robe_backward(40, 6, 10_000) == Work(60_000, 320_000, 160)
    # parts of 2 and 3 rows of width 4
    assert qr_forward([2, 3], 4, 1000) == Work(4000, pytest.approx(8000 + 80), 16000)
    assert qr_backward([2, 3], 4, 1000, sparse=True) == Work(8000, pytest.approx(24000 + 80), 48000)
    assert qr_backward([2, 3], 4, 1000, sparse=False) == Work(16000, pytest.approx(24000 + 80), 80)
    # table (3, 8), projection (8, 4)
    assert mlet_forward(3, 8, 4, 1000) == Work(64000, pytest.approx(8000 + 96 + 128), 16000)
    assert mlet_backward(3, 8, 4, 1000, sparse=True) == Work(128000, pytest.approx(24000 + 96 + 128), 40000 + 128)
    assert mlet_backward(3, 8, 4, 1000, sparse=False) == Work(136000, pytest.approx(24000 + 96 + 128), 96 + 128)


def test_expected_distinct_values_are_those_of_draws():
    generator = torch.Generator().manual_seed(0)
    for n, draws in ((1, 5), (10, 4), (1000, 700), (50, 10_000)):
        seen = [len(torch.randint(n, (draws,), generator=generator).unique()) for _ in range(200)]
        assert expected_distinct(n, draws) == pytest.approx(sum(seen) / len(seen), rel=0.02)


def test_elements_that_robe_touches_are_those_of_draws():
    size, z, lookups, dim = 2000, 8, 60, 16
    generator = torch.Generator().manual_seed(0)
    touched = []
    for _ in range(200):
        starts = torch.randint(size - z + 1, (lookups * dim // z, 1), generator=generator)
        touched.append(len((starts + torch.arange(z)).unique()))
    read = robe_forward(size, dim, z, lookups).read - 8 * lookups
    assert read / 4 == pytest.approx(sum(touched) / len(touched), rel=0.02)


def test_a_roofline_is_the_longer_of_arithmetic_and_memory():
    arithmetic, memory = Work(67e12, 1e9, 0), Work(1e9, 2.4e12, 2.4e12)
    assert arithmetic.roofline(H200) == 1.0
    assert arithmetic.roofline(H200, tf32=True) == pytest.approx(67 / 494.7)
    assert memory.roofline(H200) == 1.0
    assert (arithmetic.bound(H200), memory.bound(H200)) == ("FLOPs", "bytes")


def test_rooflines_of_a_training_step_at_rank_32():
    """Without and with recomputing on an H200: 16.9 and 22.5 µs for 10,240 lookups, 108.2 and 144.2 for 65,536."""
    shape = TTShape.of(roofline.ROWS, 64, 32)
    found = [
        1e6 * (tt_forward(shape, b) + tt_backward(shape, b, recompute=again)).roofline(H200)
        for b in roofline.FULL.batches
        for again in (False, True)
    ]
    assert found == pytest.approx([16.9, 22.5, 108.2, 144.2], rel=0.01)
    assert math.prod(shape.row_factors) >= roofline.ROWS


def test_gpus_are_known_by_the_names_that_torch_gives():
    assert peak_of("NVIDIA H200") is H200
    assert peak_of("NVIDIA H100 80GB HBM3") is H100
    assert peak_of("NVIDIA A100-SXM4-80GB") is A100
    assert peak_of("NVIDIA A100-SXM4-40GB") is None


def test_the_page_is_written_and_is_the_published_one(tmp_path, request):
    done = CliRunner().invoke(main, ["bench", "roofline", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines()[:-1])) <= 100
    text = (tmp_path / "roofline.md").read_text(encoding="utf-8")
    assert text.count("\n| ") == len(roofline.cases(roofline.FULL, torch.device("cpu"))) + 2
    assert "embpress bench roofline" in text
    assert (request.config.rootpath / "reports/published/roofline/roofline.md").read_text(encoding="utf-8") == text


def test_robe_array_of_a_ratio_has_that_share_of_the_elements():
    assert robe_size(1000, 128, 32, 10) == 12_800
    assert robe_size(1, 128, 32, 1000) == 32  # one chunk at least
