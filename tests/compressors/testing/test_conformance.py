"""Every registered method passes the public conformance suite, with several knobs."""

import pytest

from embpress.compressors import available, broken
from embpress.compressors.registry import method
from embpress.compressors.testing import parametrize_with_checks, subject_of
from embpress.compressors.testing.feature import Use
from embpress.compressors.testing.resuming import check_resumed

VARIANTS = [
    "tt:rank=4",
    "tt:rank=3:num_cores=2",
    "tt:rank=3x2x2:num_cores=4:init=gaussian",
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2",
    "tt:rank=4:cache_fraction=0.1:warmup=1:refresh=1:evict=write-back",
    "tt:rank=4:store=true",
    "robe:z=1",
    "robe:z=5:sign=true",
    "robe:size=64",
    "hash:parts=4",
    "hash:parts=3:op=add",
    "hash:parts=2:sign=true",
    "unified:parts=3",
    "cce:parts=4:k=5:hashed=9",
    "qr:op=add",
    "qr:op=concat",
    "qr:parts=3:c=3",
    "mlet:k=40:init=matched",
    "sketch:rows=29",
    "dhe:k=5:hidden=7:transform=gaussian",
    "dhe:layers=5",
    "lowrank:k=5",
    "md:blocks=3",
    "md:blocks=3:width=16x4x1",
    "prune:keep=0.03",
    "prune:keep=0.5",
    *(
        f"{spec}+bf16"
        for spec in ("full", "hash:parts=4", "qr", "robe:z=5:sign=true", "mlet", "tt:rank=4", "sketch", "dhe")
    ),
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2+bf16",
    *(f"{spec}+bf16" for spec in ("lowrank", "top", "md:blocks=3", "prune", "prune:keep=0.03")),
    *(f"{spec}+int4" for spec in ("narrow", "lowrank", "top", "md:blocks=3", "prune", "prune:keep=0.03")),
    *(f"{spec}+int2:train=true" for spec in ("lowrank", "md:blocks=3")),
    *(f"{spec}+int4" for spec in ("full", "hash:parts=4", "qr", "robe:z=5:sign=true", "mlet", "tt:rank=4")),
    *(f"{spec}+int4" for spec in ("sketch", "dhe:hidden=16")),
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2+int8",
    "robe:z=5+int8",
    "qr:op=concat+int2",
    *(f"full+int{bits}:by=row" for bits in (8, 4, 2)),
    "mlet+int4:by=row",
    "qr+bf16+int8",
    *(f"{spec}+int4" for spec in ("hash:parts=2:sign=true", "unified", "cce", "cce:parts=4:k=5:hashed=9")),
    *(f"{spec}+int2:train=true" for spec in ("full", "hash:parts=4", "robe:z=5:sign=true", "mlet", "tt:rank=4")),
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2+int4:train=true",
    "full+int4:by=row:train=true",
    "hash+hot",
    "robe:z=5:sign=true+hot:rows=7",
    "mlet+hot:rows=200",
    "tt:rank=4+hot:fraction=0.1+int8",
    "hash:parts=4+int4+hot:rows=10",
    "qr+hot:rows=6:online=true:warmup=1:refresh=1",
    "qr+hot:rows=6:online=true:warmup=1:refresh=2+int4",
    "robe+hot:rows=6:online=true:warmup=2:refresh=1+bf16",
    "tt:rank=4:cache_rows=8:warmup=1:refresh=2+hot:rows=5",
    "hash+hot:rows=10+int4:train=true",
    "hash+bf16+hot",
    "prune:keep=0.03+hot:rows=6",
    "dhe+hot:rows=6+int4",
    "cce+hot:rows=6:online=true:warmup=1:refresh=1",
    *(f"{spec}+int4:train=true" for spec in ("sketch", "dhe")),
    *(f"{spec}+int2:train=true" for spec in ("hash:parts=2:op=add", "unified:parts=3", "cce:k=5")),
    *(f"{spec}+pq:parts=4" for spec in ("full", "robe:z=5", "tt:rank=4", "sketch", "dhe")),
    "hash:parts=4+pq:parts=2",
    "qr:op=concat+pq:parts=3",
    "mlet+pq:parts=4+int8",
]
REGISTERED = [name for name in available() if method(name).unavailable() is None]
EVERY = [*REGISTERED, *VARIANTS, *(["full-tbe+bf16"] if "full-tbe" in REGISTERED else [])]


@parametrize_with_checks(EVERY)
def test_conformance(subject, check):
    check(subject)


@pytest.mark.parametrize("collected", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("method", EVERY)
def test_a_training_goes_on_from_a_checkpoint(method, collected):
    """No method may refuse it."""
    check_resumed.tried(Use(subject_of(method), collected))


def test_no_method_is_broken():
    assert broken() == {}
