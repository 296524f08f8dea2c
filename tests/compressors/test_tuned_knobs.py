"""Knobs that have to be tuned: they are knobs, change no size, and what a spec says of them stands."""

import math

import pytest
import torch

from embpress.compressors import available, create, parse
from embpress.compressors.registry import method

TUNED = [name for name in available() if method(name).tuned_knobs(16)]


@pytest.mark.parametrize("dim", [1, 4, 16, 64])
@pytest.mark.parametrize("name", TUNED)
def test_values_make_tables_of_the_same_size(name, dim):
    own = create(name, 300, dim, device="meta").ledger().serving_bytes
    cls = method(name)
    for knob, values in cls.tuned_knobs(dim).items():
        assert knob in cls.knob_names()
        assert knob not in cls.size_knobs
        assert len(set(values)) == len(values) > 0
        for value in values:
            table = create(name, 300, dim, device="meta", **{knob: value})
            assert table.ledger().serving_bytes == own
            assert table.knobs()[knob] == value != create(name, 300, dim, device="meta").knobs()[knob]
            # a spec says it in text
            assert parse(f"{name}:{knob}={value}").knobs == {knob: value}


def test_what_a_spec_says_is_not_tuned():
    assert set(parse("robe").tuned_knobs(16)) == {"init_scale"}
    assert set(parse("robe:z=4+int4").tuned_knobs(16)) == {"init_scale"}
    assert parse("robe:init_scale=2").tuned_knobs(16) == {}
    assert parse("qr:op=add").tuned_knobs(16) == {}
    assert parse("full").tuned_knobs(16) == {}


def test_a_plan_has_none(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    assert parse(f"plan:{tmp_path / 'plan.json'}").tuned_knobs(16) == {}


def test_inner_widths_of_mlet_are_multiples_of_the_width_and_never_its_own_choice():
    assert parse("mlet").tuned_knobs(16) == {"k": (128, 32, 16)}  # 64 is its own
    assert parse("mlet").tuned_knobs(1) == {"k": (8, 4, 2, 1)}


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_scale_of_robes_array(scale):
    """Every element is that of the same draw, times the scale; a full table's is 1/√(3n)."""

    def array(**knobs):
        return create("robe:size=20000", 5000, 16, generator=torch.Generator().manual_seed(3), **knobs).memory.detach()

    torch.testing.assert_close(array(init_scale=scale), scale * array())
    assert float(array(init_scale=scale).std()) == pytest.approx(scale / math.sqrt(3 * 5000), rel=0.02)
    assert torch.equal(array(init_scale=1.0), array())


@pytest.mark.parametrize("scale", ["0", "-1", "inf", "nan"])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match=r"robe: init_scale=.* must be above zero"):
        create(f"robe:init_scale={scale}", 100, 16)
