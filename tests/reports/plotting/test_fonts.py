"""No reader sees an empty box where a letter should be."""

import warnings

import matplotlib
import numpy as np
import pytest

from embpress.reports.plotting.fonts import drawable, families, short_labels
from embpress.reports.plotting.style import figure

# a noncharacter, which no font has, and what is not there to be seen
NOWHERE = "\U0001fffe"


def pixels(text):
    with matplotlib.rc_context({"font.family": families()}):
        made = figure(1.0, 3.0)
        made.text(0.05, 0.4, text, parse_math=False)
        made.canvas.draw()
        return np.asarray(made.canvas.buffer_rgba())[..., 0]


@pytest.mark.parametrize("text", ["tt:rank=16  16.0×", "Größe ñandú", "страна", "βackend … – ± Δ 10⁻³", "a_b$c$"])
def test_what_the_fonts_have_stays(text):
    assert drawable(text) == " ".join(text.split())


def test_what_no_font_has_is_its_code_point():
    assert drawable(f"a{NOWHERE}b") == "a U+1FFFE b"
    assert drawable("a\x00\tb") == "a U+0000 U+0009 b"
    assert drawable(NOWHERE) == "U+1FFFE"


@pytest.mark.parametrize("text", ["名前", "😀 emoji", "한국어", "اسم", NOWHERE])
def test_nothing_is_drawn_as_a_box(text):
    """matplotlib warns of each glyph that it draws as a box."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = pixels(drawable(text))
    assert (drawn < 128).sum() > 20
    with pytest.warns(UserWarning, match="Glyph .* missing"):
        pixels(NOWHERE)


def test_labels_still_differ():
    found = short_labels(["名前:a=1", "名古:a=1", "hash", f"{NOWHERE}{NOWHERE}", "\U0001ffff" * 2], 12)
    assert len(set(found)) == 5
    assert max(map(len, found)) <= 12
