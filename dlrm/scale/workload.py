"""The model and the step whose cost is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from embpress.compressors import TableConfig
from embpress.compressors.errors import InputError, nearest
from embpress.compressors.guard import whole

VALUE, ID = 4, 8  # bytes
# optimizer state of a dense parameter, in elements
STATE = {"sgd": 0, "adagrad": 1, "rowwise_adagrad": 1, "adam": 2}


@dataclass(frozen=True)
class Workload:
    """A DLRM (Naumov et al. 2019) with these tables, and one step of it.

    Attributes:
        rows: of each full table.
        dim: width D of the tables.
        batch: samples of a step on all devices together.
        lookups: ids of each table in a sample, L; they are pooled.
        num_dense: dense features.
        bottom, top: hidden widths of the MLPs before and after the interaction.
        optimizer: of everything.
        training: a training step; else one of inference.
    """

    rows: tuple[int, ...]
    dim: int = 128
    batch: int = 65_536
    lookups: int = 1
    num_dense: int = 13
    bottom: tuple[int, ...] = (512, 256)
    top: tuple[int, ...] = (1024, 1024, 512, 256)
    optimizer: str = "sgd"
    training: bool = True

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError("a model needs at least one table; give --rows, or --tables with --tables-number")
        for n in self.rows:
            whole(n, "the rows of a table", 1)
        for name in ("dim", "batch", "lookups", "num_dense"):
            whole(getattr(self, name), name, 1)
        if self.optimizer not in STATE:
            raise InputError(f"no optimizer {self.optimizer!r}{nearest(self.optimizer, STATE)}")

    @property
    def configs(self) -> list[TableConfig]:
        """The full tables."""
        return [TableConfig(n, self.dim, f"C{i}") for i, n in enumerate(self.rows, 1)]

    @property
    def full_bytes(self) -> int:
        """`Σ 4 n D`."""
        return VALUE * self.dim * sum(self.rows)

    @property
    def _layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers: bottom to D; top, of that and the pairs of T + 1 vectors, to 1."""
        vectors = len(self.rows) + 1
        bottom = [self.num_dense, *self.bottom, self.dim]
        top = [self.dim + vectors * (vectors - 1) // 2, *self.top, 1]
        return [*pairwise(bottom), *pairwise(top)]

    @property
    def dense_parameters(self) -> int:
        """Weights and biases of the MLPs, `Σ (in + 1) out`."""
        return sum((width + 1) * out for width, out in self._layers)

    @property
    def activations(self) -> int:
        """Elements that one sample's forward keeps in the MLPs and the interaction, `Σ out + (T + 1) D`."""
        return sum(out for _, out in self._layers) + (len(self.rows) + 1) * self.dim

    @property
    def moved(self) -> int:
        """Elements that one sample's forward reads and writes in MLPs and interaction.

        `Σ (in + out)` of the layers, and the T + 1 vectors that the interaction reads; what it writes is the top MLP's
        input.
        """
        return sum(width + out for width, out in self._layers) + (len(self.rows) + 1) * self.dim

    @property
    def flops(self) -> float:
        """Of one sample: `Σ 2 in out` of the linear layers and `2 D` for each pair of the T + 1 vectors.

        Training takes three times those of the forward: one more for the gradient of the inputs, one for that of the
        weights.
        """
        vectors = len(self.rows) + 1
        forward = sum(2 * width * out for width, out in self._layers) + self.dim * vectors * (vectors - 1)
        return float((3 if self.training else 1) * forward)
