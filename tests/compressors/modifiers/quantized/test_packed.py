"""`+int8`, `+int4`, `+int2`: what is served is codes, of the size that arithmetic says, near what was trained."""

import io

import pytest
import torch
from safetensors.torch import save
from torch import Generator, nn

from embpress.compressors import InputError, TableCollection, TableConfig, create, parse, plan
from embpress.compressors.ledger import held_bytes

METHODS = ["full", "hash", "hash:parts=4", "qr", "robe:z=4:sign=true", "mlet", "tt:rank=4", "tt:rank=4:cache_rows=9"]
CONFIGS = [TableConfig(5000, 16, "a"), TableConfig(300, 16, "b"), TableConfig(20, 16, "small")]


def seeded():
    return Generator().manual_seed(0)


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("method", METHODS)
def test_more_bits_are_nearer(method):
    trained = create(method, 500, 16, generator=seeded()).to_dense()
    errors = [
        relative(create(f"{method}+int{bits}", 500, 16, generator=seeded()).fold().to_dense(), trained)
        for bits in (8, 4, 2)
    ]
    # of values spread evenly over a range the error is 1 / (2^bits - 1) of their deviation; a product has several
    for error, bits in zip(errors, (8, 4, 2)):
        assert error < 2.2 / (2**bits - 1)
    assert errors == sorted(errors)


@pytest.mark.parametrize("method", METHODS)
def test_training_is_the_methods_own(method):
    plain = TableCollection.build(CONFIGS, method, generator=seeded())
    tables = TableCollection.build(CONFIGS, f"{method}+int4", generator=seeded())
    ids = torch.stack([torch.arange(20) * 7 % n for n, _, _ in CONFIGS], 1)
    assert torch.equal(tables(ids), plain(ids))
    assert tables.ledger("adam", 64).training_bytes == plain.ledger("adam", 64).training_bytes


@pytest.mark.parametrize(("bits", "width", "n"), [(8, 16, 5000), (4, 16, 5000), (4, 7, 300), (2, 5, 300), (4, 1, 9)])
def test_bytes_by_column(bits, width, n):
    table = create(f"full+int{bits}", n, width)
    expected = -(-n * width * bits // 8) + 4 * width  # codes, and two bfloat16 a column
    assert table.ledger().serving_bytes == held_bytes(table.fold()) == expected


def test_bytes_by_row_by_block_and_by_slice():
    assert create("full+int8:by=row", 100, 16).ledger().serving_bytes == 100 * (16 + 8)
    blocks = -(-1000 // 64)
    assert create("robe:size=1000+int4", 900, 16).ledger().serving_bytes == blocks * (32 + 4) + 3 * 8
    cores = create("tt:rank=4+int4", 1000, 16)
    digits = sum(cores.table.row_factors)
    elements = sum(core.numel() for core in cores.table.cores)
    assert cores.ledger().serving_bytes == elements // 2 + 4 * digits


@pytest.mark.parametrize("method", ["hash", "qr", "robe", "tt", "mlet"])
def test_a_ratio_counts_codes_and_ranges(method):
    full = sum(4 * n * dim for n, dim, _ in CONFIGS)
    made = plan(parse(f"{method}+int4"), CONFIGS, ratio=32)
    assert 0.7 * full / 32 < sum(table.bytes for table in made.tables) <= full / 32
    tables = TableCollection.build(CONFIGS, made, generator=seeded())
    assert held_bytes(tables.fold()) == tables.serving_bytes == sum(table.bytes for table in made.tables)


def test_small_tables_are_in_few_bits_too():
    made = plan(parse("hash+int4"), CONFIGS, ratio=16)
    assert str(made.tables[2].method) == "full+int4"
    assert made.tables[2].bytes == 20 * 8 + 4 * 16


@pytest.mark.parametrize("method", METHODS)
def test_files_are_as_large_as_the_ledger_says(method):
    tables = TableCollection.build(CONFIGS, f"{method}+int4", generator=seeded()).fold()
    held = {name: value for name, value in tables.state_dict().items() if not name.endswith("_extra_state")}
    file = io.BytesIO()
    torch.save(held, file)
    names = len(held)
    constants = sum(e.bytes for e in tables.ledger().serving if "coefficients" in e.name or "base" in e.name)
    constants += sum(e.bytes for e in tables.ledger().serving if e.name.split(": ")[1] in ("slots", "stride", "sizes"))
    assert tables.serving_bytes - constants <= file.tell() <= tables.serving_bytes + 2000 + 700 * names
    assert tables.serving_bytes - constants <= len(save(held)) <= tables.serving_bytes + 200 + 200 * names


def test_no_cast_reaches_what_is_packed():
    served = create("robe:size=900+int4", 500, 16, generator=seeded()).fold()
    ranges = served.memory_ranges
    with torch.no_grad():
        ranges.mul_(2**-20)  # steps that float16 does not have
    before = served.to_dense()
    assert torch.equal(nn.Module.half(served).to_dense(), before)
    assert served.memory_ranges.dtype == torch.bfloat16


def test_separate_tables_of_one_array_share_its_codes():
    tables = TableCollection.build(CONFIGS[:2], "robe:size=1000+int4", generator=seeded())
    one, other = (table.fold() for table in tables.tables)
    assert one.memory_codes is other.memory_codes
    assert held_bytes(one, other) == 1024 // 2 + 4 * 16 + 2 * 3 * 8  # each has the coefficients of its hash
    with torch.no_grad():
        tables.groups[0].inner.memory.mul_(2)
    assert not torch.equal(tables.tables[0].fold().to_dense(), one.to_dense())


def test_what_is_in_codes_already_is_refused():
    with pytest.raises(InputError, match="int8: of what int4 serves all are codes already"):
        create("hash+int4+int8", 100, 16)
    with pytest.raises(InputError, match="by='table' is not one of column, row"):
        create("hash+int4:by=table", 100, 16)


def test_a_method_that_does_not_say_what_it_reads_is_refused():
    from embpress.compressors.methods.full import Full
    from embpress.compressors.modifiers.quantized import Int4

    class Silent(Full):
        arrays = Full.__mro__[1].arrays

    with pytest.raises(InputError, match="does not say which arrays"):
        Int4(Silent(10, 4))
