"""The public conformance suite: what every compressor promises."""

from embpress.compressors.testing import parametrize_with_checks

METHODS = ["weighted-hash", "weighted-hash:k=7:parts=3", "full+max-norm:at=0.1", "tt:rank=2+max-norm"]


@parametrize_with_checks([*METHODS, "weighted-hash+max-norm"])
def test_conformance(subject, check):
    check(subject)
