"""Buffers of a cache that hold anything, in a process of its own, which a crash would take down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from embpress.kernels import ops
from embpress.kernels.errors import ArgumentError

FUZZ = Path(__file__).parents[2] / "support" / "hostile_caches.py"
EMULATED = hasattr(torch.ops.embpress, "emulates_cuda")


def fuzz(device, **environment):
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--device", device, "--rounds", "60" if EMULATED else "300"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_any_memory_gives_an_answer_or_a_sentence(device):
    shown = fuzz(device)
    for attempt in ("index", "find", "count", "lookup"):
        assert f"{attempt}: answered" in shown


def test_any_memory_gives_an_answer_or_a_sentence_in_plain_pytorch_too(tmp_path):
    assert "count: refused" in fuzz("cpu", EMBPRESS_LIBRARY=str(tmp_path / "none.so"))


def test_a_search_that_cannot_end_is_refused(device):
    """What memory of zeros is: every slot says row 0."""
    if device != "cpu" or EMULATED or ops.backend("cache_find") != "native":
        pytest.skip("elsewhere the search ends and finds nothing")
    held, wanted = torch.zeros(3, dtype=torch.int64), torch.tensor([5])
    sentence = "does not belong to its ids"
    for index in (torch.zeros(8, dtype=torch.int32), torch.full((8,), 3, dtype=torch.int32)):
        with pytest.raises(ArgumentError, match=sentence):
            ops.cache_find(index, held, wanted)
        cores = [torch.randn(3, 1, 2, 3), torch.randn(4, 3, 2, 1)]
        with pytest.raises(ArgumentError, match=f"the cache of table 0 {sentence}"):
            ops.tt_embedding_bag(
                cores,
                wanted[:, None],
                num_embeddings=(12,),
                caches=[index, held, torch.zeros(3, 4)],
                num_cores=2,
            )
    for keys, used in ((0, 0), (-1, -7), (-1, 2**60)):
        with pytest.raises(ArgumentError, match="the table of counts"):
            ops.count_ids(
                torch.full((16,), keys), torch.zeros(16, dtype=torch.int64), torch.tensor(used), torch.tensor([5])
            )
