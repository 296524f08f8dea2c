"""Which method is run at which size."""

from embpress.compressors import parse_all
from embpress.dlrm.runs.record import Asked
from embpress.dlrm.runs.sweep import every_size
from embpress.dlrm.training.settings import resolve


def pairs(methods, sizes, **options):
    found = every_size(parse_all(methods), resolve(1000, **options), sizes)
    return [(str(spec), settings.ratio, settings.budget) for spec, settings in found]


def test_without_sizes_every_method_is_there_at_the_one_asked_for():
    assert pairs("full,hash", []) == [("full", None, None), ("hash", None, None)]
    assert pairs("full,hash", [], ratio=7.0) == [("full", 7.0, None), ("hash", 7.0, None)]


def test_what_has_one_size_is_there_once():
    sizes = [Asked(4.0), Asked(16.0), Asked(64.0)]
    found = [spec for spec, *_ in pairs("full,hash,hash:k=9,robe:ratio=10,full+int8,hash+int8,narrow", sizes)]
    once = {"full", "hash:k=9", "robe:ratio=10", "full+int8"}
    assert {spec: found.count(spec) for spec in found} == {
        spec: 1 if spec in once else 3 for spec in (*once, "hash", "hash+int8", "narrow")
    }


def test_sizes_follow_one_another_and_leave_all_else_alone():
    settings = resolve(1000, epochs=3, ratio=2.0)
    found = every_size(parse_all("hash,qr"), settings, [Asked(4.0), Asked(budget=1000)])
    assert [(str(spec), s.ratio, s.budget, s.epochs) for spec, s in found] == [
        ("hash", 4.0, None, 3), ("qr", 4.0, None, 3), ("hash", None, 1000, 3), ("qr", None, 1000, 3)
    ]  # fmt: skip
