"""Specs, methods by name, plug-ins, `create`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embpress.compressors import (
    InputError,
    MethodSpec,
    available,
    broken,
    create,
    method,
    parse,
    parse_all,
    register,
)
from embpress.compressors.methods.full import Full
from embpress.compressors.registry import METHODS
from embpress.compressors.spec import as_bytes, as_ratio, typed


@pytest.mark.parametrize(
    "text",
    [
        "full",
        "tt:rank=16",
        "tt:rank=16x32:num_cores=3:init=uniform",
        "tt:row_factors=10x20x30:column_factors=2x2x4",
        "robe:z=32:sign=True:ratio=1000",
        "qr:op=concat:parts=2:budget=1500000",
        "full-tbe:optimizer=sgd:learning_rate=0.05",
        "mlet:force=False:ratio=2.5",
        "hash:ratio=123456789",
    ],
)
def test_a_spec_is_written_as_it_is_read(text):
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


@settings(deadline=None, max_examples=50)
@given(
    st.floats(1, 1e12) | st.none(),
    st.integers(1, 99) | st.lists(st.integers(1, 99), min_size=2, max_size=3).map(tuple),
    st.sampled_from(["gaussian", "uniform"]),
)
def test_any_spec_survives_the_round_trip(ratio, rank, init):
    spec = MethodSpec("tt", {"rank": rank, "init": init}, ratio)
    assert parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "knobs"),
    [
        ("tt:rank=8", {"rank": 8}),
        ("tt:rank=8x4", {"rank": (8, 4)}),
        ("tt:row_factors=4x5x6", {"row_factors": (4, 5, 6)}),
        ("robe:sign=yes", {"sign": True}),
        ("robe:sign=0", {"sign": False}),
        ("full-tbe:learning_rate=1e-3", {"learning_rate": 0.001}),
        ("tt:init=uniform", {"init": "uniform"}),
    ],
)
def test_knobs_have_their_types(text, knobs):
    found = parse(text).knobs
    assert found == knobs
    assert [type(value) for value in found.values()] == [type(value) for value in knobs.values()]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("robbe", "'robe'"),
        ("zzzzzz", "known: .*full.*tt"),
        ("", "no method ''"),
        ("tt:rnak=8", "did you mean 'rank'"),
        ("full:rank=8", "no knob 'rank'.*none"),
        ("tt:rank=eight", "'rank' takes int or tuple.*'eight'"),
        ("tt:rank=8.5", "rank"),
        ("tt:rank=8xx", "rank"),
        ("robe:sign=maybe", "'sign' takes bool.*'maybe'"),
        ("robe:memory=3", "memory"),
        ("tt:rank", "name=value.*'rank'"),
        ("tt:rank=", "name=value"),
        ("tt::rank=3", "name=value"),
        ("tt:ratio=0.5", "at least 1.*0.5"),
        ("tt:ratio=inf", "ratio"),
        ("tt:ratio=nan", "ratio"),
        ("tt:ratio=x", "'x'"),
        ("tt:budget=0", "at least one byte"),
        ("tt:budget=ten", "'ten'"),
        ("tt:ratio=2:budget=100", "not both"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(text, says):
    with pytest.raises(InputError, match=says):
        parse(text)


def test_several_specs():
    assert [str(spec) for spec in parse_all("tt:rank=16, robe:z=32:ratio=1000,,full")] == [
        "tt:rank=16",
        "robe:z=32:ratio=1000",
        "full",
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [("1500000", 1500000), ("1500k", 1500000), ("1.5M", 1500000), ("1.5MB", 1500000), ("2g", 2 * 10**9), ("7", 7)],
)
def test_sizes_in_bytes(text, size):
    assert as_bytes(text) == size


def test_ratios_are_numbers_from_one():
    assert as_ratio("1") == 1
    assert as_ratio(2.5) == 2.5
    for wrong in ("0.99", "-3", "inf", "nan", "2x"):
        with pytest.raises(InputError):
            as_ratio(wrong)


def test_all_methods_are_listed():
    names = available()
    assert names == sorted(names)
    assert {"full", "full-tbe", "tt", "robe", "hash", "qr", "mlet"} <= set(names)
    for name in names:
        assert method(name).spec_name == name


# --- plug-ins ---------------------------------------------------------------------------------------------------------


class Doubled(Full):
    """A full table whose rows come out doubled."""

    group = None
    stacked = ()

    def __init__(self, num_embeddings, embedding_dim, *, times: float = 2.0, **options):
        super().__init__(num_embeddings, embedding_dim, **options)
        self.times = times

    def _lookup(self, ids):
        return self.times * self.weight[ids]


class Point:
    """What `importlib.metadata` gives for an entry point."""

    def __init__(self, name, load):
        self.name, self.value, self.loads, self._load = name, f"somewhere:{name}", 0, load

    def load(self):
        self.loads += 1
        return self._load()


def missing():
    raise ImportError("no module named 'nowhere'")


@pytest.fixture
def plug_ins(monkeypatch):
    points = {
        "doubled": Point("doubled", lambda: Doubled),
        "gone": Point("gone", missing),
        "number": Point("number", lambda: 42),
        "full": Point("full", lambda: Doubled),  # a name that is taken
    }
    available()
    monkeypatch.setattr(METHODS, "known", dict(METHODS.known))
    monkeypatch.setattr(METHODS, "broken", dict(METHODS.broken))
    monkeypatch.setattr(METHODS, "plug_ins", lambda: points)
    monkeypatch.setattr(Doubled, "spec_name", "")
    return points


def test_a_plug_in_works_like_a_built_in_method(plug_ins):
    assert "doubled" in available()
    table = create("doubled:times=3", 10, 4)
    assert isinstance(table, Doubled)
    torch.testing.assert_close(table.lookup(torch.tensor(7)), 3 * table.weight[7])
    with pytest.raises(InputError, match="'times'"):
        create("doubled:tims=3", 10, 4)


def test_plug_ins_load_on_demand_and_once(plug_ins):
    method("tt")
    assert plug_ins["doubled"].loads == 0
    method("doubled")
    method("doubled")
    assert plug_ins["doubled"].loads == 1
    assert plug_ins["gone"].loads == 0


def test_a_broken_plug_in_is_listed_and_breaks_nothing(plug_ins):
    assert "gone" not in available()
    assert "number" not in available()
    reasons = broken()
    assert "nowhere" in reasons["gone"]
    assert "no Compressor" in reasons["number"]
    assert "doubled" not in reasons
    with pytest.raises(InputError, match=r"'gone' does not load.*nowhere"):
        create("gone", 10, 4)
    assert create("tt", 500, 4).num_embeddings == 500
    assert plug_ins["gone"].loads == 1


def test_a_plug_in_cannot_replace_a_built_in_method(plug_ins):
    assert method("full") is Full


def test_a_mistyped_plug_in_is_suggested(plug_ins):
    with pytest.raises(InputError, match="did you mean 'doubled'"):
        method("doubeld")


def test_a_taken_or_odd_name_is_refused():
    with pytest.raises(InputError, match=r"taken by embpress\.compressors\.methods\.full"):
        register("full")(Doubled)
    for name in ("Upper", "", "a b", "a:b"):
        with pytest.raises(InputError, match="lower-case"):
            register(name)(Doubled)
    assert method("full") is Full


# --- create -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_norm", 1.0), ("max_norm", 2.0), ("max_norm", 0.0), ("scale_grad_by_freq", True), ("norm_type", 1.0)],
)
@pytest.mark.parametrize("spec", ["full", "tt", "robe"])
def test_what_torch_has_and_compressed_tables_have_not_is_refused_by_name(spec, name, value):
    with pytest.raises(InputError, match=name):
        create(spec, 500, 8, **{name: value})


def test_torchs_defaults_of_these_pass():
    assert create("full", 10, 4, max_norm=None, norm_type=2.0, scale_grad_by_freq=False).num_embeddings == 10


def test_create_refuses_max_pooling_and_unknown_keywords():
    with pytest.raises(InputError, match="'max'"):
        create("full", 10, 4, mode="max")
    with pytest.raises(InputError, match="padding_idx"):
        create("full", 10, 4, padding_index=3)
    with pytest.raises(InputError, match="rank"):
        create("tt", 500, 4, rnk=3)
    with pytest.raises(InputError, match="at least one row"):
        create("full", 0, 4)


def test_create_sizes_the_table():
    assert create("hash:ratio=10", 10_000, 16).ledger().serving_bytes <= 64_000
    assert create("hash:k=77:ratio=10", 10_000, 16).k == 77
    assert create("hash:ratio=10", 10_000, 16, k=55).k == 55
    with pytest.raises(InputError, match="one size"):
        create("full:ratio=2", 100, 16)


@pytest.mark.parametrize("spec", ["tt:rank=4", "robe", "hash:parts=2", "qr", "mlet", "full"])
def test_the_generator_is_the_only_source_of_randomness(spec):
    tables = []
    for seed in (1, 1, 2):
        state = torch.random.get_rng_state()
        tables.append(create(spec, 300, 8, generator=torch.Generator().manual_seed(seed)).to_dense())
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.rand(1)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_ratio_and_budget_are_keywords_of_create_too():
    by_keyword, by_spec = create("hash", 1000, 16, ratio=10), create("hash:ratio=10", 1000, 16)
    assert by_keyword.ledger().serving_bytes == by_spec.ledger().serving_bytes
    assert create("hash", 1000, 16, budget="5k").ledger().serving_bytes <= 5000
    with pytest.raises(InputError, match="at least 1"):
        create("hash", 1000, 16, ratio=-1)


def test_a_knob_without_annotation_takes_its_defaults_type():
    class Bare(Full):
        def __init__(self, n, d, *, k=4, **options):
            super().__init__(n, d, **options)
            self.k = k

    Bare.spec_name = "bare"
    assert typed("bare", Bare, "k", "8") == 8
    with pytest.raises(InputError, match="takes int"):
        typed("bare", Bare, "k", "many")
