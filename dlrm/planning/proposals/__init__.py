"""Where candidates come from, one file each, found by being there: `propose(goal, prober, best)`.

Each is asked once before anything has been tried, with `best` empty, and again with the best candidates so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embpress.dlrm.planning.candidate import Candidate, Goal
from embpress.dlrm.planning.probe import Prober
from embpress.kernels import found


def proposals(goal: Goal, prober: Prober, best: Sequence[Candidate]) -> Iterator[Candidate]:
    """What all of them propose."""
    for module in found.modules(__name__).values():
        yield from module.propose(goal, prober, best)
