"""The sections of the report about what was run: data, row 0, protocol, environment, command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from embpress.reports import numerals, records
from embpress.reports.markdown_text import bullets, code, escape, table
from embpress.reports.records import Record

_MOST_FEATURES = 10
_ENVIRONMENT = {
    "cpu": "CPU",
    "platform": "Platform",
    "threads": "Threads",
    "python": "Python",
    "torch": "PyTorch",
    "embpress": "embpress",
}


def row0(runs: Sequence[Record]) -> str:
    """Share of lookups that end on row 0, all in all and for the features where it is largest."""
    data = _data(runs)
    total = records.finite(data.get("row0_share_total"))
    pairs = [(str(name), records.finite(s)) for name, s in zip(_list(data, "features"), _list(data, "row0_share"))]
    if not any(share is not None for _, share in pairs):  # the tables of a run tell it too
        tables = next((found for run in runs if (found := records.items(run, "tables"))), [])
        pairs = [(str(t.get("feature")), records.finite(t.get("row0_share"))) for t in tables if isinstance(t, Mapping)]
    shares = sorted(((name, s) for name, s in pairs if s is not None), key=lambda pair: (-pair[1], pair[0]))
    parts = []
    if total is not None:
        parts.append(
            f"{numerals.percent(total)} of all lookups end on row 0, the row for missing, unseen and rare ids. "
            "They share one vector a table under every method, so they say nothing about compression."
        )
    if shares:
        top = shares[:_MOST_FEATURES]
        body = [[escape(name), numerals.percent(share)] for name, share in top]
        parts.append(table(["Feature", "Lookups on row 0"], body))
        if len(shares) > len(top):
            rest = len(shares) - len(top)
            parts.append(f"The other {rest} features have {numerals.percent(shares[len(top)][1])} or less each.")
    return "\n\n".join(parts)


def data_and_protocol(runs: Sequence[Record]) -> str:
    """Data, split, vocabulary, model and training."""
    data = _data(runs)
    rows = data.get("rows")
    mean = records.finite(data.get("label_mean"))
    sizes = [n for n in map(records.finite, _list(data, "num_embeddings")) if n is not None]
    ids = f"{sum(sizes):,.0f} rows in {len(sizes)} tables" if sizes else ""
    least = records.finite(data.get("min_count"))
    rare = f"ids seen fewer than {least:g} times in training share row 0" if least is not None and least > 1 else ""
    about = data.get("about")
    pairs = [
        ("Data", ", ".join(str(data[key]) for key in ("name", "format") if data.get(key))),
        ("Fingerprint", str(data.get("fingerprint") or "")),
        ("Examples", ", ".join(f"{n:,} {k}" for k, n in rows.items()) if isinstance(rows, Mapping) else ""),
        ("Clicked", numerals.percent(mean) if mean is not None else ""),
        ("Features", _features(data)),
        ("Split", str(data.get("split") or "")),
        ("Vocabulary", "; ".join(part for part in (ids, rare) if part)),
        ("About the data", _settings(about, ": ") if isinstance(about, Mapping) else str(about or "")),
        *_each("Model", (_settings(records.part(run, "model")) for run in runs)),
        *_each("Training", (_settings(records.part(run, "training")) for run in runs)),
    ]
    several = len({records.protocol(run) for run in runs}) > 1
    note = "\n\nRuns with different settings are kept apart and never compared with one another." if several else ""
    return bullets(pairs) + note


def environment(runs: Sequence[Record]) -> str:
    """Machine and software; what differs among the runs is listed with all its values."""
    known = [records.part(run, "environment") for run in runs]
    values = [(name, sorted({str(env[name]) for env in known if env.get(name) is not None})) for name in _ENVIRONMENT]
    packages = sorted({f"{name} {version}" for env in known for name, version in records.part(env, "packages").items()})
    times = sorted(str(run["created"]) for run in runs if run.get("created"))
    pairs = [(_ENVIRONMENT[name], "; ".join(found)) for name, found in values]
    pairs += [("Packages", ", ".join(packages))]
    pairs += [(title, ", ".join(_distinct(runs, title.lower()))) for title in ("Backend", "Device")]
    pairs += [("Run", " to ".join(dict.fromkeys([times[0], times[-1]])) if times else "")]
    mixed = any(len(found) > 1 for _, found in values)
    note = "\n\nNot all runs were made in one environment; compare their times with care." if mixed else ""
    return bullets(pairs) + note


def command(runs: Sequence[Record]) -> str:
    """The command that makes these runs again."""
    found = _distinct(runs, "command")
    return code("\n".join(found)) if found else ""


def _data(runs: Sequence[Record]) -> Mapping[str, Any]:
    return next((found for run in runs if (found := records.part(run, "data"))), {})


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    return records.items(data, name)


def _features(data: Mapping[str, Any]) -> str:
    dense, sparse = len(_list(data, "dense")), len(_list(data, "features"))
    return f"{sparse} categorical, {dense} numeric" if sparse or dense else ""


def _settings(found: Mapping[str, Any], between: str = " ") -> str:
    pairs = [(str(name).replace("_", " "), records.scalar_text(value)) for name, value in found.items()]
    return ", ".join(value if name == "name" else f"{name}{between}{value}" for name, value in pairs)


def _each(title: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(title, text) for text in dict.fromkeys(texts)]


def _distinct(runs: Sequence[Record], key: str) -> list[str]:
    return sorted({str(run[key]) for run in runs if run.get(key)})
