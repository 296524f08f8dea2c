"""The area under the ROC curve against a count of pairs."""

import pytest
import torch

from embpress.dlrm.measure.auc import auc


@pytest.mark.parametrize("kinds", [2, 50, 10**6])
def test_it_is_the_share_of_pairs_won(kinds):
    """With many ties, with few, with none."""
    g = torch.Generator().manual_seed(kinds)
    labels = (torch.rand(2_000, generator=g) < 0.2).float()
    logits = torch.randint(kinds, (2_000,), generator=g) / kinds + labels / 10
    gaps = logits[labels == 1].unsqueeze(1) - logits[labels == 0]
    want = ((gaps > 0).double() + (gaps == 0).double() / 2).mean()
    assert auc(logits, labels) == pytest.approx(float(want), abs=1e-6)


def test_one_class_has_none():
    assert auc(torch.rand(3), torch.ones(3)) != auc(torch.rand(3), torch.ones(3))
