"""`full-torchrec` as far as it goes without TorchRec: which rank holds what, and what is said where it is missing."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.compressors import InputError, create
from embpress.compressors.registry import method
from embpress.compressors.torchrec_shards import balanced


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_no_rank_holds_more_than_another_by_more_than_its_smallest_table(sizes, ranks):
    chosen = balanced(sizes, ranks)
    held = [sum(size for size, rank in zip(sizes, chosen) if rank == each) for each in range(ranks)]
    assert sum(held) == sum(sizes)
    for each in range(ranks):
        own = [size for size, rank in zip(sizes, chosen) if rank == each]
        if own:
            assert held[each] - min(own) <= min(held)


def test_without_torchrec_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchrec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(InputError, match=r"install embpress\[torchrec\], then .*pip install --no-deps torchrec"):
        create("full-torchrec", 100, 8)
    assert "torchrec does not import" in method("full-torchrec").unavailable()
