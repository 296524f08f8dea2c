"""Devices, networks and tables as people write them."""

import pytest

from embpress.compressors.errors import InputError
from embpress.dlrm.bench.peaks import PEAKS
from embpress.dlrm.scale.parsing import as_count, as_devices, as_network, as_tables, machines, networks


def test_devices_by_name_and_in_numbers():
    assert as_devices("8xH100") == (8, machines()["h100"])
    assert as_devices("16xa100-80GB")[1].memory == 80e9
    count, made = as_devices("2x80GB:2TB/s:19.5TFLOP/s")
    assert (count, made.memory, made.bandwidth, made.fp32, made.tf32) == (2, 80e9, 2e12, 19.5e12, None)
    for peak in PEAKS:  # one GPU has one rate
        assert peak.bandwidth in {machine.bandwidth for machine in machines().values()}


def test_every_device_and_network_says_where_its_numbers_are_from():
    for one in [*machines().values(), *networks().values()]:
        assert one.source != "given"
        assert one.bandwidth > 1e9
    assert all(one.memory >= 16e9 and one.fp32 > 1e12 for one in machines().values())


@pytest.mark.parametrize(
    ("text", "bandwidth", "latency"),
    [
        ("100Gb/s", 12.5e9, 0),
        ("100gb/s", 12.5e9, 0),
        ("1Pb/s", 1.25e14, 0),
        ("100 Gbit/s", 12.5e9, 0),
        ("12.5GB/s", 12.5e9, 0),
        ("200Gbps:5us", 25e9, 5e-6),
        ("1TB/s:0.5ms", 1e12, 5e-4),
        ("NVLink4", 450e9, 0),
        ("infiniband_ndr", 50e9, 0),
    ],
)
def test_networks(text, bandwidth, latency):
    found = as_network(text)
    assert found.bandwidth == pytest.approx(bandwidth)
    assert found.latency == pytest.approx(latency)


@pytest.mark.parametrize(
    ("call", "args", "match"),
    [
        (as_devices, ("H100",), "a number and a name"),
        (as_devices, ("0xH100",), "a number and a name"),
        (as_devices, ("8xH10",), "did you mean 'h100'"),
        (as_devices, ("8x80GB:2TB/s",), "memory, bandwidth and FLOP/s"),
        (as_devices, ("8x80:2TB/s:1TFLOP/s",), "'80' is no amount in B; write it like 80GB"),
        (as_devices, ("8x80GB:2TB:1TFLOP/s",), "'2TB' is no amount in B/s"),
        (as_network, ("nvlink9",), "did you mean 'nvlink[34]'"),
        (as_network, ("100G",), "'100G' is no amount in B/s"),
        (as_network, ("0Gb/s",), "is no amount"),
        (as_network, ("1GB/s:5",), "latency is written as a time"),
        (as_count, ("1.5",), "whole numbers"),
        (as_count, ("-3",), "whole numbers"),
        (as_tables, (None, None, 3, 8), "say how large the tables are"),
        (as_tables, ("1GB", None, None, 8), "say also --tables-number"),
        (as_tables, ("1GB", "5,6", None, 8), "names every table already"),
        (as_tables, ("1GB", "5", 3, 8), "decide the third"),
        (as_tables, (None, "criteo-terabite", None, 8), "did you mean 'criteo-terabyte'"),
        (as_tables, ("10", None, 3, 8), "less than a row of width 8 in each of 3 tables"),
        (as_tables, ("1MB", "40M", None, 8), "less than a table of 40,000,000 rows"),
        (as_tables, ("many", None, 3, 8), "a budget is a number of bytes|size"),
        (as_tables, ("1TB", "1", None, 8), "more than|over 100,000"),
        (as_tables, (None, "5", 10**6, 8), "at most 100,000 tables"),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(call, args, match):
    with pytest.raises(InputError, match=match) as error:
        call(*args)
    assert "\n" not in str(error.value)


def test_tables_from_what_is_known_of_them():
    assert as_tables(None, "40M,39060,1.5k", None, 128) == (40_000_000, 39_060, 1500)
    assert as_tables(None, "40M", 3, 128) == (40_000_000,) * 3
    assert as_tables("3kB", None, 2, 4) == (94, 93)
    assert as_tables("16MB", "100k", None, 4) == (100_000,) * 10
    assert sum(as_tables(None, "criteo-terabyte", None, 128)) == 204_184_588
    assert len(as_tables(None, "criteo-kaggle", None, 16)) == 26
