"""Whether the threads of a training waited for each other, told from how long its steps took."""

from __future__ import annotations

TIMES = 4.0  # a mean step so many times the median one
SECONDS = 5.0  # what waiting must have cost to be worth a word


def threads_wait(median: float, total: float, steps: int) -> bool:
    """Whether a few steps took most of the time, as when other programs take the processors of waiting threads.

    Args:
        median: seconds of the median step.
        total: seconds of all steps.
        steps: how many they are.
    """
    return steps > 0 and total > TIMES * median * steps and total - median * steps > SECONDS
