"""Tables, devices and networks from the text that a person writes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embpress.compressors.errors import InputError, nearest
from embpress.compressors.guard import shown
from embpress.compressors.spec import as_bytes
from embpress.dlrm.bench.step import KAGGLE_ROWS
from embpress.dlrm.bench.terabyte import TERABYTE_ROWS
from embpress.dlrm.scale.base import Machine, Network
from embpress.dlrm.scale.workload import VALUE
from embpress.kernels import found

# table sizes that have a name: those of facebookresearch/dlrm on Criteo's data
ROWS = {"criteo-kaggle": KAGGLE_ROWS, "criteo-terabyte": TERABYTE_ROWS}
MOST_TABLES = 100_000
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_NUMBER = r"(\d+(?:\.\d+)?(?:e\d+)?)\s*"


def machines() -> dict[str, Machine]:
    """The devices of the folder `machines` by name: that of the file, with `-` for `_`."""
    known = found.modules("embpress.dlrm.scale.machines")
    return {name.replace("_", "-"): module.MACHINE for name, module in known.items()}


def networks() -> dict[str, Network]:
    """The networks of the folder `networks` by name: that of the file, with `-` for `_`."""
    known = found.modules("embpress.dlrm.scale.networks")
    return {name.replace("_", "-"): module.NETWORK for name, module in known.items()}


def as_devices(text: str) -> tuple[int, Machine]:
    """`8xH100`, or `8x80GB:2TB/s:19.5TFLOP/s` with memory, its bandwidth and FP32 rate as numbers.

    Raises:
        InputError: no such device, or another form.
    """
    count, _, name = text.strip().partition("x")
    if not name or not count.isdecimal() or not 1 <= int(count) <= 1 << 20:
        raise InputError(f"devices are written as a number and a name, such as 8xH100, got {shown(text)}")
    known = machines()
    if ":" not in name:
        key = name.strip().lower().replace(" ", "-").replace("_", "-")
        if key not in known:
            raise InputError(
                f"there is no device {shown(name)}{nearest(key, known)}; known are {', '.join(known)}, and numbers "
                "such as 80GB:2TB/s:19.5TFLOP/s"
            )
        return int(count), known[key]
    parts = name.split(":")
    if len(parts) != 3:
        raise InputError(
            f"a device in numbers is memory, bandwidth and FLOP/s, such as 80GB:2TB/s:19.5TFLOP/s, got {shown(name)}"
        )
    memory, bandwidth, flops = _amount(parts[0], "B"), _amount(parts[1], "B/s"), _amount(parts[2], "FLOP/s")
    return int(count), Machine(name, memory, bandwidth, flops)


def as_network(text: str) -> Network:
    """A name such as `nvlink4`, or a rate in one direction, `100Gb/s` (bits) or `12.5GB/s` (bytes), `100Gb/s:5us`.

    Raises:
        InputError: no such network, or another form.
    """
    known = networks()
    key = text.strip().lower().replace("_", "-")
    if key in known:
        return known[key]
    rate, _, late = text.strip().partition(":")
    if not rate[:1].isdigit():
        names = ", ".join(known)
        raise InputError(
            f"there is no network {shown(text)}{nearest(key, known)}; known are {names}, and rates such as 100Gb/s"
        )
    latency = 0.0
    if late:
        match = re.fullmatch(_NUMBER + r"(us|ms|s)", late)
        if not match:
            raise InputError(f"a network's latency is written as a time, such as 5us, got {shown(late)}")
        latency = float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[match[2]]
    bits = re.fullmatch(_NUMBER + r"[kmgtpKMGTP]?(b/s|bit/s|bps)", rate) is not None
    bandwidth = _amount(re.sub(r"(b/s|bit/s|bps)$", "B/s", rate), "B/s", text) / (8 if bits else 1)
    return Network(text.strip(), bandwidth, latency)


def as_count(text: str) -> int:
    """A whole number of rows: `39060`, `40M`, `1.5G`.

    Raises:
        InputError: another form, or less than one.
    """
    match = re.fullmatch(_NUMBER + "([kmgt]?)", text.strip().lower())
    value = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if not 1 <= value < 2**62 or value != int(value):
        raise InputError(f"rows are whole numbers such as 39060 or 40M, got {shown(text)}")
    return int(value)


def as_tables(size: str | None, rows: str | None, number: int | None, dim: int) -> tuple[int, ...]:
    """Rows of each table from what was given of total bytes, rows and number.

    Args:
        size: bytes of all full tables, such as `50TB`.
        rows: of each table with commas between, one number for all of them, or a name such as `criteo-terabyte`.
        number: how many tables.
        dim: their width.

    Raises:
        InputError: too little or too much is given, or what is given contradicts itself.
    """
    if rows is not None and rows.strip() in ROWS:
        listed: Sequence[int] = ROWS[rows.strip()]
    elif rows is not None and not rows.strip()[:1].isdigit():
        names = ", ".join(ROWS)
        raise InputError(f"there are no tables called {shown(rows)}{nearest(rows, ROWS)}; known are {names}")
    else:
        listed = [as_count(one) for one in rows.split(",")] if rows is not None else []
    if number is not None and number > MOST_TABLES:
        raise InputError(f"a model has at most {MOST_TABLES:,} tables here, got {number:,}")
    if len(listed) > 1:
        if size is not None or number is not None:
            raise InputError("--rows names every table already; leave out --tables and --tables-number")
        return tuple(listed)
    if size is not None and listed and number is not None:
        raise InputError("two of --tables, --rows and --tables-number decide the third; leave one out")
    if size is None:
        if not listed:
            raise InputError("say how large the tables are: --rows, or --tables with --tables-number")
        return tuple(listed) * (number or 1)
    total = as_bytes(size) // (VALUE * dim)
    if not listed and number is None:
        raise InputError("--tables is the size of all of them; say also --tables-number, or the --rows of each")
    count = number if number is not None else max(1, round(total / listed[0]))
    if listed and not 0.5 * total < count * listed[0] < 2 * total:
        raise InputError(f"{size} is less than a table of {listed[0]:,} rows of width {dim}; give more, or fewer rows")
    if total < count:
        raise InputError(
            f"{size} is less than a row of width {dim} in each of {count:,} tables; give more, or fewer tables"
        )
    if count > MOST_TABLES:
        raise InputError(
            f"{size} of tables with {listed[0]:,} rows would be {count:,} tables, more than {MOST_TABLES:,}"
        )
    return tuple(total // count + (t < total % count) for t in range(count)) if not listed else tuple(listed) * count


def _amount(text: str, unit: str, whole: str | None = None) -> float:
    match = re.fullmatch(_NUMBER + r"([kmgtp]?)" + unit.lower(), text.strip().lower())
    value = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if value <= 0:
        example = {"B": "80GB", "B/s": "100Gb/s or 12.5GB/s", "FLOP/s": "19.5TFLOP/s"}[unit]
        raise InputError(f"{shown(whole or text)} is no amount in {unit}; write it like {example}")
    return value
