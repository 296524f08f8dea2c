"""Initial values of tensor-train tables, drawn and measured; how far a normal is from a full table's (TT-Rec, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from embpress.compressors import create
from embpress.compressors.methods.tt.init import init_cores
from embpress.dlrm.runs.record import Run

Floats = NDArray[np.float64]
METHOD = "tt"  # of whose tables the page is
CORES = 3  # of the paper's figure
DRAWS = 8  # tables: the entries of one share few core elements, so its own variance is a draw, too
ENTRIES = 1 << 17  # of each table
# The two other initialisations of the code published with the paper (FBTT's TTEmbeddingBag, weight_dist). Its third,
# approx-normal, is our sampled-gaussian-fbtt.
PUBLISHED = ("normal", "uniform")


@dataclass(frozen=True)
class Shape:
    """A table of n rows and width D in tensor-train form.

    Attributes:
        feature: its name.
        num_embeddings: n.
        embedding_dim: D.
        trained: whether a run has it in this form.
        rank: as text.
        terms: products that an entry is the sum of, `R_1 ⋯ R_{d−1}`.
        knobs: its shape as `create("tt", …)` takes it.
    """

    feature: str
    num_embeddings: int
    embedding_dim: int
    trained: bool
    rank: str
    terms: int
    knobs: Mapping[str, Any]

    @property
    def unit(self) -> float:
        """`1 / √(3n)`: standard deviation of a full table's initial values, `U(−1/√n, 1/√n)`."""
        return 1 / math.sqrt(3 * self.num_embeddings)


def shape_of(runs: Iterable[Run]) -> Shape | None:
    """The largest tensor-train table of the runs, else their largest table at the method's default rank, else none."""
    tables = [table for run in runs for table in run.tables]
    if not tables:
        return None
    table = max(tables, key=lambda table: (table.method == METHOD, table.num_embeddings, table.embedding_dim))
    trained = table.method == METHOD
    shape = ("rank", "num_cores", "row_factors", "column_factors")
    knobs = {key: _knob(value) for key, value in table.knobs.items() if trained and key in shape}
    n, dim = table.num_embeddings, table.embedding_dim
    built = create(METHOD, n, dim, device="meta", **knobs)
    rank = built.knobs()["rank"]
    text = "×".join(map(str, rank)) if isinstance(rank, tuple) else str(rank)
    terms = math.prod(core.shape[3] for core in built.parameters())
    return Shape(table.feature, n, dim, trained, text, terms, knobs)


def kl_uniform_normal(num_embeddings: int, variance: float) -> float:
    """`KL(U(−1/√n, 1/√n) ‖ N(0, σ²)) = ½ ln(π n σ² / 2) + 1 / (6 n σ²)`, nats.

    Args:
        num_embeddings: rows n.
        variance: σ².
    """
    product = num_embeddings * variance
    return 0.5 * math.log(math.pi * product / 2) + 1 / (6 * product)


def products(name: str, num_embeddings: int, count: int, seed: int = 0) -> Floats:
    """`(count,)` independent entries of tables of three cores and rank 1: products of three core elements.

    Args:
        name: one of `INITS`, or `published:` and one of `PUBLISHED`.
        num_embeddings: rows n, which set the scale.
        count: how many.
        seed: of the draws.
    """
    cores = [torch.empty(count, 1, 1, 1) for _ in range(CORES)]
    _fill(cores, num_embeddings, 1, name, Generator().manual_seed(seed))
    return torch.stack([core.view(-1) for core in cores]).double().prod(0).numpy()


def entries(shape: Shape, name: str, draws: int = DRAWS, count: int = ENTRIES) -> Floats:
    """`(draws, about count)` entries of freshly drawn tables: whole rows, chosen at random with replacement."""
    rows = max(1, count // shape.embedding_dim)
    values = []
    for seed in range(draws):
        generator = Generator().manual_seed(seed)
        table = create(METHOD, shape.num_embeddings, shape.embedding_dim, generator=generator, **shape.knobs)
        cores = [core.data for core in table.parameters()]
        _fill(cores, shape.num_embeddings, shape.embedding_dim, name, generator)
        with torch.no_grad():
            ids = torch.randint(shape.num_embeddings, (rows,), generator=generator)
            values.append(table.lookup(ids).double().flatten().numpy())
    return np.stack(values)


def density(values: Floats, edges: Floats) -> Floats:
    """Share of the values in each bin per unit of its width, `(bins,)`; what lies outside counts in the whole."""
    counts = np.histogram(values, edges)[0]
    return np.asarray(counts / (values.size * np.diff(edges)))


def relative_std(values: Floats, unit: float) -> tuple[float, float]:
    """Root mean square of each draw's entries over `unit`: mean and standard deviation over the draws.

    About zero, not about the mean: what counts is how far entries are from those of a table that is zero.
    """
    each = np.sqrt((values.reshape(len(values), -1) ** 2).mean(1)) / unit
    return float(each.mean()), float(each.std(ddof=1)) if len(each) > 1 else 0.0


def excess_kurtosis(values: Floats) -> float:
    """`E[x⁴] / E[x²]² − 3` about zero: 0 for a normal, −1.2 for a uniform, −2 where all entries have one size."""
    scaled = values / np.sqrt((values**2).mean())  # fourth powers of tiny entries would vanish
    return float((scaled**4).mean() - 3)


def _fill(cores: Sequence[Tensor], num_embeddings: int, embedding_dim: int, name: str, generator: Generator) -> None:
    if not name.startswith("published:"):
        init_cores(cores, num_embeddings, name, generator)
        return
    ranks = math.prod(core.shape[3] for core in cores)
    for core in cores:
        if name == "published:normal":
            core.normal_(0, num_embeddings**-0.5, generator=generator)
        else:
            # from 0 up, never below it: the published code passes 0 and this width to uniform_
            width = (2 / (num_embeddings + embedding_dim)) ** (1 / (2 * len(cores))) * ranks ** (-1 / (2 * len(cores)))
            core.uniform_(0, width, generator=generator)


def _knob(value: Any) -> Any:
    """A knob of a record: shapes are text there, `200x220x250`."""
    if not isinstance(value, str):
        return int(value)
    whole = tuple(int(part) for part in value.split("x"))
    return whole if len(whole) > 1 else whole[0]
