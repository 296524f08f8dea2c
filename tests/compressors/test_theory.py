"""The rows of a sketch: the union bound that the constants stand for, and the promised errors, measured."""

import math

import pytest
import torch

from embpress.compressors import InputError
from embpress.compressors.methods.sketch import Sketch
from embpress.compressors.theory import macro, micro, most_important

DRAWS, DELTA = 10, 0.1
N, D = 2000, 2


def log_failing(rows, log_points, error):
    """ln of the union bound: some of f vectors' inner products is off by more than `error`."""
    return math.log(2) + 2 * log_points - rows / 2 * (error**2 / 2 - error**3 / 3)


@pytest.mark.parametrize("dim", [1, 2, 16, 256])
@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("delta", [1e-6, 0.01, 0.5])
def test_the_rows_satisfy_the_union_bound(dim, epsilon, delta):
    one = macro(dim, epsilon, delta)
    # sums over a 1/2-net meet with 2 × 2 times the error of its points
    assert one.log_points == pytest.approx(math.log(9**dim))
    assert log_failing(one.rows, one.log_points, epsilon / 4) <= math.log(delta)
    assert log_failing(one.rows / 2, one.log_points, epsilon / 4) > math.log(delta)  # and are at most twice as many
    for n in (1, 10**4, 10**12):
        few = micro(n, dim, epsilon, delta, 0.2)
        assert few.log_points == pytest.approx(math.log(9**dim + n))
        # a unit vector meets one such sum
        assert log_failing(few.rows, few.log_points, 0.2 * epsilon / 2) <= math.log(delta)


def test_the_formula():
    assert macro(16, 0.6, 0.01).constant == pytest.approx(128 / 0.9)
    assert macro(16, 0.6, 0.01).rows == math.ceil(128 / 0.9 * (16 * math.log(9) + math.log(100)) / 0.36)
    one = micro(1000, 3, 0.6, 0.01, 0.5)
    assert one.constant == pytest.approx(32 / 0.9)
    assert one.rows == math.ceil(32 / 0.9 * math.log((9**3 + 1000) * 100) / 0.09)


# --- measured ---------------------------------------------------------------------------------------------------------


def table(kind):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(N, D, generator=generator, dtype=torch.float64)
    if kind == "correlated":
        weight[:, 1] = weight[:, 0] + 1e-3 * weight[:, 1]
    if kind == "few long rows":
        weight *= 0.01
        weight[5:9] *= 100 * 30
    return weight


def macro_error(weight, memory):
    """The largest `|<Mx, My> - <Ex, Ey>| / (‖Ex‖ ‖Ey‖)`, over all x and y: exactly.

    With `E = Q R` and u = Rx of any direction it is `|u^T (A^T A - 1) v| / (‖u‖ ‖v‖)`, `A = M R^-1`.
    """
    r = torch.linalg.qr(weight).R
    a = torch.linalg.solve_triangular(r.T, memory.T, upper=False).T
    return float(torch.linalg.matrix_norm(a.T @ a - torch.eye(D, dtype=a.dtype), 2))


def micro_error(weight, rows, rho):
    """The largest `|<r, x> - <E[i], x>| / (‖E[i]‖ ‖x‖)` over all x and the rows of importance, and how many these are.

    For a row it is `‖r - E[i]‖ / ‖E[i]‖`, at x along the difference.
    """
    norms = weight.norm(dim=1)
    important = norms / torch.linalg.matrix_norm(weight, 2) > rho
    errors = (rows - weight).norm(dim=1) / norms
    return float(errors[important].max()), int(important.sum())


def sketches(weight, rows):
    for seed in range(DRAWS):
        generator = torch.Generator().manual_seed(seed)
        yield Sketch.from_dense(weight, rows=rows, fit="sketch", generator=generator)[0]


@pytest.mark.parametrize("kind", ["random", "correlated", "few long rows"])
def test_the_macro_promise_is_kept(kind):
    weight, one = table(kind), macro(D, 0.9, DELTA)
    assert one.rows < N
    errors = [macro_error(weight, made.memory.detach()) for made in sketches(weight, one.rows)]
    assert sum(error > one.epsilon for error in errors) <= DELTA * DRAWS
    assert min(errors) > 0


def test_the_micro_promise_is_kept():
    weight, one = table("few long rows"), micro(N, D, 1.0, DELTA, 0.5)
    assert one.rows < N
    missed = 0
    for made in sketches(weight, one.rows):
        error, count = micro_error(weight, made.to_dense(), one.rho)
        assert 2 <= count <= most_important(N, D, one.rho) < one.rows
        missed += error > one.epsilon
    assert missed <= DELTA * DRAWS


def test_far_fewer_rows_break_both():
    weight = table("few long rows")
    made = list(sketches(weight, 4))
    assert sum(macro_error(weight, one.memory.detach()) > 0.9 for one in made) > DELTA * DRAWS
    assert sum(micro_error(weight, one.to_dense(), 0.5)[0] > 1 for one in made) > DELTA * DRAWS


def test_short_rows_are_not_promised():
    weight, one = table("few long rows"), micro(N, D, 1.0, DELTA, 0.5)
    made = next(sketches(weight, one.rows))
    assert micro_error(weight, made.to_dense(), 0.0)[0] > 10 * one.epsilon


def test_the_bound_that_definition_2_prints_is_another():
    weight = table("random")
    memory = next(sketches(weight, macro(D, 0.9, DELTA).rows)).memory.detach()
    x = torch.eye(D, dtype=torch.float64)  # of length 1 each
    assert float(((memory @ x).T @ (memory @ x) - weight.T @ weight).abs().max()) > 0.9
    assert macro_error(weight, memory) < 0.9


def test_what_is_refused():
    for arguments in ((16, 0.0, 0.1), (16, 1.1, 0.1), (16, 0.5, 0.6), (16, float("nan"), 0.1), (0, 0.5, 0.1)):
        with pytest.raises(InputError):
            macro(*arguments)
    with pytest.raises(InputError, match="rho lies between 1e-06 and 1, got 2"):
        micro(10, 16, 0.5, 0.1, 2)
