"""Ways to choose each method's learning rate and knobs by trials on the validation part, one file each.

`--tune NAME[:…]` names one by its class's `name`. Help names what is in here, so it is imported without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embpress.dlrm.members import members, written_forms
from embpress.dlrm.tuning.base import RATE, Tuning, Values, text_of

if TYPE_CHECKING:
    from embpress.dlrm.training.settings import Settings

__all__ = ["RATE", "Tuning", "Values", "forms", "parse", "protocol_rate", "text_of", "ways"]


def ways() -> dict[str, type[Tuning]]:
    """The ways of this folder by name."""
    return members(__name__, Tuning)


def forms() -> dict[str, str]:
    """How each way is written and what it does: see `written_forms`."""
    return written_forms(__name__)


def parse(text: str, rate: float) -> Tuning:
    """A way as it is written: `lr`, `lr:0.005,0.01`, `all:trials=8`.

    Args:
        text: its name, and what it takes.
        rate: the learning rate of the settings, where every search begins.

    Raises:
        InputError: no such way, or one that is written otherwise.
    """
    from embpress.compressors.errors import InputError, nearest
    from embpress.compressors.guard import shown

    name, colon, argument = text.strip().partition(":")
    known = ways()
    if name not in known:
        raise InputError(f"there is no way {shown(name)} to tune{nearest(name, known)}")
    if colon and not argument:
        raise InputError(f"tune {shown(text)} says nothing after its colon; it is written {known[name].form}")
    return known[name].of(argument, rate)


def protocol_rate(settings: Settings) -> float | str:
    """What stands for the learning rate in what runs must share: the rate, or how every method's own is chosen."""
    return f"tuned by {parse(settings.tune, settings.learning_rate).label}" if settings.tune else settings.learning_rate
