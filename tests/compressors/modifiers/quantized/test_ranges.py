"""Codes and ranges: what is packed comes back, and the range is one of least squared error."""

import pytest
import torch
from torch import Generator

from embpress.compressors.modifiers.quantized import ranges
from embpress.compressors.modifiers.quantized.codes import pack, packed_width, unpack


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 17])
def test_packed_codes_come_back(bits, width):
    codes = torch.randint(0, 1 << bits, (7, width), generator=Generator().manual_seed(0))
    packed = pack(codes, bits)
    assert packed.shape == (7, packed_width(width, bits))
    assert torch.equal(unpack(packed, bits, width), codes.to(torch.uint8))


def squared_error(values, fitted, bits):
    return float((ranges.decode(ranges.encode(values, fitted, bits), fitted) - values).square().sum())


def searched(values, bits):
    """The least squared error of one column over a fine grid of both ends."""
    low, high = float(values.min()), float(values.max())
    ends = torch.linspace(low, high, 60)
    least = float("inf")
    for lo in ends:
        for hi in ends[ends > lo]:
            step = (hi - lo) / ((1 << bits) - 1)
            codes = ((values - lo) / step).round().clamp(0, (1 << bits) - 1)
            least = min(least, float((lo + step * codes - values).square().sum()))
    return least


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("kind", ["normal", "uniform", "outlier", "skewed"])
def test_the_range_is_near_the_best_there_is(bits, kind):
    draws = torch.randn(400, 1, generator=Generator().manual_seed(0))
    values = {
        "normal": draws,
        "uniform": draws.argsort(0).float() / 400,
        "outlier": torch.cat([draws, draws.new_full((1, 1), 12.0)]),
        "skewed": draws.exp(),
    }[kind]
    fitted = ranges.fit(values, bits)
    assert squared_error(values, fitted, bits) <= 1.1 * searched(values, bits)


def test_it_beats_the_extremes_where_there_are_outliers():
    values = torch.cat([torch.randn(20_000, 3, generator=Generator().manual_seed(0)), torch.full((1, 3), 30.0)])
    low, high = values.amin(0), values.amax(0)
    extremes = torch.stack([low, (high - low) / 15])
    assert squared_error(values, ranges.fit(values, 4), 4) < 0.5 * squared_error(values, extremes, 4)


def test_a_single_value_and_two_values_are_kept():
    for values in (torch.tensor([[0.3, -2.0, 0.0]]), torch.tensor([[0.3, -2.0, 0.0], [0.7, -2.0, 1e-6]])):
        fitted = ranges.fit(values, 8)
        kept = ranges.decode(ranges.encode(values, fitted, 8), fitted)
        torch.testing.assert_close(kept, values, rtol=1e-4, atol=float((values.amax(0) - values.amin(0)).max()) / 255)


def test_ranges_are_exact_in_bfloat16():
    fitted = ranges.fit(torch.randn(100, 50, generator=Generator().manual_seed(0)) * 1e-4, 4)
    assert torch.equal(fitted.bfloat16().float(), fitted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_next_number_is_the_next(dtype):
    values = torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(0)), 2.0 ** torch.arange(-20, 10)])
    values = torch.cat([values, 1e-6 * values, values.new_zeros(1)]).to(dtype)
    for up in (1, -1):
        want = torch.nextafter(values, torch.full_like(values, up * torch.inf)).float()
        assert torch.equal(ranges._next(values.float(), up, dtype), want)


def test_many_short_rows_do_not_clip_the_few_long_ones():
    """Rows that are hardly looked up stay short; those that are trained would lose most where all weigh the same."""
    generator = Generator().manual_seed(0)
    rows = torch.cat([torch.randn(100_000, 4, generator=generator) * 0.01, torch.randn(20, 4, generator=generator)])
    long = rows[-20:]
    fitted = ranges.fit_columns(rows, 4)
    kept = ranges.decode(ranges.encode(long, fitted, 4), fitted)
    assert float((kept - long).square().mean()) < 0.01
    alike = ranges.fit(rows, 4)
    assert squared_error(long, fitted, 4) < 0.2 * squared_error(long, alike, 4)
