"""The public conformance suite: what every compressor promises, as small checks."""

from embpress.compressors.testing.subject import Subject, subject_of
from embpress.compressors.testing.suite import CHECKS, parametrize_with_checks

__all__ = ["CHECKS", "Subject", "parametrize_with_checks", "subject_of"]
