"""Methods as parameters of tests; one that needs a package that is not here is skipped, and the skip says which."""

import pytest

from embpress.compressors import parse


def here(specs, device="cpu"):
    """Parameters of these specs."""
    return [_skipped(spec, reason) if (reason := parse(spec).cls.unavailable(device)) else spec for spec in specs]


def _skipped(spec, reason):
    return pytest.param(spec, marks=pytest.mark.skip(reason=f"{spec}: {reason}"))
