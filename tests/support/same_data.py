"""Click data compared bit for bit."""

import torch

from embpress.dlrm.data import load
from embpress.dlrm.data.prepare.prepare import prepare

ITSELF = ("prepared",)  # what only a folder says of itself


def assert_same(one, other):
    """Everything that `ClickData` holds is equal, types too."""
    for name in ("name", "format", "features", "num_embeddings", "dense_names", "row0_share", "fingerprint"):
        assert getattr(one, name) == getattr(other, name), name
    about = [{key: value for key, value in data.about.items() if key not in ITSELF} for data in (one, other)]
    assert about[0] == about[1]
    for counts, others in zip(one.counts, other.counts, strict=True):
        assert counts.dtype == others.dtype
        assert torch.equal(counts, others)
    for part in ("train", "valid", "test"):
        a, b = getattr(one, part), getattr(other, part)
        pairs = [(a.labels, b.labels), (a.dense, b.dense), (a.ids, b.ids)]
        assert a.bags.keys() == b.bags.keys()
        pairs += [(a.bags[f].values, b.bags[f].values) for f in a.bags]
        pairs += [(a.bags[f].offsets, b.bags[f].offsets) for f in a.bags]
        for left, right in pairs:
            assert left.dtype == right.dtype
            assert torch.equal(left, right)


def both(paths, to, **options):
    """Data as `load` reads them and as `prepare` writes them, which must be equal; the latter."""
    prepared = load(prepare(paths, to, **options))
    assert_same(load(paths, **options), prepared)
    return prepared
