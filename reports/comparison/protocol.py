"""The sections of the report about what was run: data, row 0, protocol, environment, command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from embpress.reports import numerals, records
from embpress.reports.records import Record
from embpress.reports.text import bullets, code, escape, table

_MOST_FEATURES = 10
_ENVIRONMENT = {
    "cpu": "CPU",
    "platform": "Platform",
    "threads": "Threads",
    "python": "Python",
    "torch": "PyTorch",
    "embpress": "embpress",
    "native_ops": "Native ops",
    "gpu": "GPU",
    "compute_capability": "Compute capability",
    "gpu_memory_bytes": "GPU memory",
    "gpu_driver": "GPU driver",
    "cuda": "CUDA",
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
            f"{numerals.percent(total)} of the test lookups end on row 0, the row for missing, unseen and rare ids. "
            "They share one vector a table under every method, so they say nothing about compression."
        )
    if shares:
        top = shares[:_MOST_FEATURES]
        body = [[escape(name), numerals.percent(share)] for name, share in top]
        parts.append(table(["Feature", "Lookups on row 0"], body))
        if len(shares) > len(top):
            rest = len(shares) - len(top)
            most = shares[len(top)][1]
            share = f"at most {numerals.percent(most)} each" if most >= 0.0005 else "none, or under 0.1 %"
            parts.append(f"The other {rest} features have {share}.")
    return "\n\n".join(parts)


def data_and_protocol(runs: Sequence[Record]) -> str:
    """Data, split, vocabulary, model and training."""
    data = _data(runs)
    rows = data.get("rows")
    mean = records.finite(data.get("label_mean"))
    sizes = [n for n in map(records.finite, _list(data, "num_embeddings")) if n is not None]
    ids = f"{sum(sizes):,.0f} rows in {len(sizes)} tables" if sizes else ""
    least = records.finite(data.get("min_count"))
    rare = (
        f"ids seen fewer than {least:g} times in the rows trained on share row 0"
        if least is not None and least > 1
        else ""
    )
    about = records.part(data, "about")
    pairs = [
        ("Data", ", ".join(str(data[key]) for key in ("name", "format") if data.get(key))),
        ("Fingerprint", str(data.get("fingerprint") or "")),
        ("Examples", ", ".join(f"{n:,} {k}" for k, n in rows.items()) if isinstance(rows, Mapping) else ""),
        ("Clicked", numerals.percent(mean) if mean is not None else ""),
        ("Features", _features(data)),
        ("Split", _split(data, about)),
        ("Vocabulary", "; ".join(part for part in (ids, rare) if part)),
        ("Files", ", ".join(map(str, records.items(about, "files")))),
        ("Test files", ", ".join(map(str, records.items(about, "test_files")))),
        ("Columns", _columns(records.part(data, "columns"))),
        ("Made with", _settings(_scalars(records.part(about, "synthetic")))),
        *_each("Model", (_settings(_given(records.part(run, "model"))) for run in runs)),
        *_each("Training", (_settings(records.part(run, "training")) for run in runs)),
    ]
    several = len({records.protocol(run) for run in runs}) > 1
    note = "\n\nRuns with different settings are kept apart and never compared with one another." if several else ""
    return bullets(pairs) + note


def environment(runs: Sequence[Record]) -> str:
    """Machine and software; what differs among the runs is listed with all its values."""
    known = [records.part(run, "environment") for run in runs]
    values = [(name, sorted({_value(env, name) for env in known} - {""})) for name in _ENVIRONMENT]
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


def _value(env: Mapping[str, Any], name: str) -> str:
    found = env.get(name)
    size = records.finite(found) if name.endswith("_bytes") else None
    return "" if found is None else str(found) if size is None else numerals.size(size)


def _data(runs: Sequence[Record]) -> Mapping[str, Any]:
    return next((found for run in runs if (found := records.part(run, "data"))), {})


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    return records.items(data, name)


def _features(data: Mapping[str, Any]) -> str:
    dense, sparse = len(_list(data, "dense")), len(_list(data, "features"))
    return f"{sparse} categorical, {dense} numeric" if sparse or dense else ""


def _split(data: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """How the test part and validation were chosen, in words."""
    split = str(data.get("split") or "")
    seed = about.get("split_seed", 0)
    test = {
        "order": "the last fifth of the rows is the test part",
        "random": f"a fifth of the rows, drawn at random with seed {seed}, is the test part",
        "test files": "the test part has files of its own",
    }.get(split, split)
    valid = {"order": "the last tenth", "random": "a random tenth"}.get(str(about.get("valid_split")))
    return f"{test}; {valid} of the rest is for validation and chooses the epoch" if valid and test else test


def _columns(columns: Mapping[str, Any]) -> str:
    """Which column is what, and what was guessed."""
    guessed = records.items(columns, "guessed")
    shown = []
    for role in ("label", "dense", "sparse"):
        value = columns.get(role)
        names = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        if names:
            shown.append(f"{role}{' (guessed)' if role in guessed else ''}: {names}")
    return "; ".join(shown)


def _scalars(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not isinstance(value, (list, dict))}


def _given(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def _settings(found: Mapping[str, Any]) -> str:
    pairs = [(str(name).replace("_", " "), records.scalar_text(value)) for name, value in found.items()]
    return ", ".join(value if name == "name" else f"{name} {value}" for name, value in pairs)


def _each(title: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(title, text) for text in dict.fromkeys(texts)]


def _distinct(runs: Sequence[Record], key: str) -> list[str]:
    return sorted({str(run[key]) for run in runs if run.get(key)})
