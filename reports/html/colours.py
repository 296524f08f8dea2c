"""Each colour of a plot by light and in the dark."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable

PAPER_LIGHT, PAPER_DARK = "#ffffff", "#16181d"
_CONTRAST = 3.2  # with the dark paper, which what is drawn has at least
_GREY = 0.12  # saturation below which a colour is none


def variable(colour: str) -> str:
    """What stands for a colour `#rrggbb` in a page: `var(--prrggbb)`."""
    return f"var(--p{colour.lower().removeprefix('#')})"


def colours_in(svg: str) -> set[str]:
    """The colours `#rrggbb` that stand as variables in a plot."""
    return {f"#{found}" for found in re.findall(r"var\(--p([0-9a-f]{6})\)", svg)}


def variables(colours: Iterable[str]) -> tuple[str, str]:
    """Declarations of `--p<hex>` for colours `#rrggbb`: by light, and in the dark."""
    ordered = sorted({colour.lower() for colour in colours})
    light = "".join(f"--p{colour[1:]}:{PAPER_LIGHT if colour == PAPER_LIGHT else colour};" for colour in ordered)
    return light, "".join(f"--p{colour[1:]}:{dark(colour)};" for colour in ordered)


def dark(colour: str) -> str:
    """What a colour `#rrggbb` on white is on dark paper: greys mirrored, others as light as reading asks for."""
    if colour.lower() == PAPER_LIGHT:
        return PAPER_DARK
    hue, lightness, saturation = colorsys.rgb_to_hls(*_parts(colour))
    if saturation < _GREY or not 0.02 < lightness < 0.98:
        lightness = 0.95 - 0.82 * lightness
        return _hex(colorsys.hls_to_rgb(hue, lightness, saturation))
    found = colour.lower()
    while contrast(found, PAPER_DARK) < _CONTRAST:
        lightness += 0.02
        found = _hex(colorsys.hls_to_rgb(hue, lightness, saturation))
    return found


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21 (WCAG 2, relative luminance of sRGB)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _parts(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hex(parts: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * min(1.0, max(0.0, part))):02x}" for part in parts)
