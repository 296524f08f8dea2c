"""The public conformance suite: what every compressor promises, as small checks.

    from embpress.compressors.testing import parametrize_with_checks

    @parametrize_with_checks(["tt:rank=4", MyCompressor])
    def test_conformance(subject, check):
        check(subject)

A check takes a `Subject`, a method with fixed knobs, and raises AssertionError where a promise is broken. The oracle of
pooling is `nn.functional.embedding_bag` on the table written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embpress.compressors.base import Compressor
from embpress.compressors.testing.subject import Subject, subject_of
from embpress.kernels import found

__all__ = ["CHECKS", "Subject", "parametrize_with_checks", "subject_of"]

CHECKS: tuple[Callable[[Subject], None], ...] = tuple(
    check
    for module in found.modules(__package__ or "").values()
    for name, check in vars(module).items()
    if name.startswith("check_") and check.__module__ == module.__name__
)


def parametrize_with_checks(
    methods: Sequence[str | type[Compressor] | Subject],
    devices: Sequence[str] = ("cpu",),
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> Any:
    """A pytest decorator for `def test(subject, check): check(subject)`: every check on every method and device.

    Args:
        methods: specs, classes or subjects.
        devices: such as `["cpu", "cuda"]`.
        expected_failures: method → {check's name: reason}; such a check must fail, or the test does.
    """
    import pytest

    parameters = []
    for device in devices:
        for method in methods:
            subject = subject_of(method, device)
            known = (expected_failures or {}).get(str(subject), {})
            unknown = set(known) - {check.__name__ for check in CHECKS}
            if unknown:
                raise ValueError(f"no such checks: {', '.join(sorted(unknown))}")
            for check in CHECKS:
                reason = known.get(check.__name__)
                marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
                parameters.append(pytest.param(subject, check, id=f"{subject}-{check.__name__}", marks=marks))
    return pytest.mark.parametrize(("subject", "check"), parameters)
