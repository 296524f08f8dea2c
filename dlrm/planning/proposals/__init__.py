"""Where candidates come from, one file each, found by being there: `propose(goal, prober, best, on)`.

Each is asked once before anything has been tried, with `best` empty, and again with the best candidates so far. What
takes time asks `on()` whether there is some left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from embpress.dlrm.planning.candidate import Candidate, Goal
from embpress.dlrm.planning.probe import Prober
from embpress.kernels import found


def proposals(
    goal: Goal, prober: Prober, best: Sequence[Candidate], on: Callable[[], bool] = lambda: True
) -> Iterator[Candidate]:
    """What all of them propose, in turn."""
    asked = [module.propose(goal, prober, best, on) for module in found.modules(__name__).values()]
    while asked:
        for source in list(asked):
            candidate = next(source, None)
            if candidate is None:
                asked.remove(source)
            else:
                yield candidate
