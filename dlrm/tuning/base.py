"""`Tuning`: a way to choose a method's learning rate and knobs by trials, which proposes and is told validation AUC."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import Any, ClassVar

from typing_extensions import Self

RATE = "learning_rate"
Values = dict[str, Any]  # the learning rate, and the knobs that are not left as they are
Search = Generator[Values, float, None]
MAX_TRIALS = 100


class Tuning:
    """A way to choose by trials; a subclass is found by its `name`.

    Class attributes:
        name: as written in `--tune`.
        form: how it is written, for messages.
        tunes_knobs: whether it chooses knobs besides the rate.

    Attributes:
        label: the way with all that decides what is tried, which runs must share to be compared.
        trials: how many trials every method has, the one with the settings' own values among them.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    tunes_knobs: ClassVar[bool] = True

    def __init__(self, label: str, trials: int) -> None:
        self.label, self.trials = label, trials

    @classmethod
    def of(cls, argument: str, rate: float) -> Self:
        """The way with what stands after its name; InputError where it takes something else."""
        raise NotImplementedError

    def search(self, rate: float, knobs: Mapping[str, tuple[Any, ...]]) -> Search:
        """Proposes `trials` values one after another, first `{RATE: rate}` alone, the values that nobody has tuned.

        It is sent the validation AUC of each, minus infinity where there is none, and proposes the same for the same.

        Args:
            rate: the learning rate of the settings.
            knobs: other values of knobs than those they have by themselves, the most promising first.
        """
        raise NotImplementedError


def options_of(cls: type[Tuning], argument: str, known: Mapping[str, int]) -> dict[str, int]:
    """Whole numbers written `name=value`, with colons between; `known` has the names with their defaults.

    Raises:
        InputError: another name, or no whole number; trials are between 1 and 100.
    """
    from embpress.compressors.errors import InputError
    from embpress.compressors.guard import shown, whole

    values = dict(known)
    for part in argument.split(":") if argument else ():
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            raise InputError(f"tune {cls.name} is written {cls.form}, got {shown(part)}")
        if key == "trials":
            values[key] = whole(value, f"tune {cls.name}: trials", 1, MAX_TRIALS)
        else:
            values[key] = whole(value, f"tune {cls.name}: {key}", 0, 2**31 - 1)
    return values


def learning_rate(text: str, cls: type[Tuning]) -> float:
    """A learning rate from text; InputError where it is not positive and finite."""
    from embpress.compressors.errors import InputError
    from embpress.compressors.guard import shown

    try:
        rate = float(text)
    except (ValueError, OverflowError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputError(f"tune {cls.name}: a learning rate must be a positive number, got {shown(text)}")
    return rate


def rounded(rate: float) -> float:
    """Three significant digits: what lies between says nothing, and fills records and tables."""
    return float(f"{rate:.3g}")


def number(value: float) -> str:
    """A number as a label has it, with all digits that tell it from others in use."""
    return f"{value:.12g}"


def text_of(values: Mapping[str, Any]) -> str:
    """`rate 0.04, init_scale=4`: values as people read them."""
    knobs = {name: value for name, value in values.items() if name != RATE}
    texts = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in knobs.items()]
    return ", ".join([f"rate {values[RATE]:g}", *texts])
