"""The sections of the report about what was run: data, row 0, protocol, environment, command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from embpress.compressors.guard import counted
from embpress.dlrm.data.split import HALVES
from embpress.dlrm.runs.comparable import protocol_key
from embpress.dlrm.runs.record import LOADERS, DataRecord, Run
from embpress.reports import numerals, records
from embpress.reports.comparison.tuning import protocol_text
from embpress.reports.text import bullets, code, escape, table

_MAX_FEATURES = 10
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


def row0(runs: Sequence[Run]) -> str:
    """Share of lookups that end on row 0, all in all and for the features where it is largest."""
    data = runs[0].data
    parts = []
    if data.row0_share_total is not None:
        parts.append(
            f"{numerals.percent(data.row0_share_total)} of the test lookups end on row 0, the row for missing, unseen "
            "and rare ids. They share one vector a table under every method, so they say nothing about compression."
        )
    shares = sorted(zip(data.features, data.row0_share), key=lambda pair: (-pair[1], pair[0]))
    if shares:
        top, rest = shares[:_MAX_FEATURES], shares[_MAX_FEATURES:]
        parts.append(table(["Feature", "Lookups on row 0"], [[escape(f), numerals.percent(s)] for f, s in top]))
        if rest:
            share = f"at most {numerals.percent(rest[0][1])} each" if rest[0][1] >= 0.0005 else "none, or under 0.1 %"
            parts.append(f"The other {len(rest)} features have {share}.")
    return "\n\n".join(parts)


def data_and_protocol(runs: Sequence[Run]) -> str:
    """Data, split, vocabulary, model and training."""
    data = runs[0].data
    about = data.about
    vocabulary = [f"{counted(sum(data.num_embeddings), 'row')} in {counted(len(data.num_embeddings), 'table')}"]
    if data.min_count is not None and data.min_count > 1:
        vocabulary.append(f"ids seen fewer than {counted(data.min_count, 'time')} in the rows trained on share row 0")
    vocabulary += _numbering(data)
    pairs = [
        ("Data", f"{data.name}, {data.format}"),
        ("Data set", str(about.get("dataset") or "")),
        ("Fingerprint", data.fingerprint),
        ("Examples", ", ".join(f"{n:,} {part}" for part, n in data.rows.items())),
        ("Clicked", numerals.percent(data.label_mean) if data.label_mean is not None else ""),
        ("Features", f"{len(data.features)} categorical" + (f", {len(data.dense)} numeric" if data.dense else "")),
        ("Split", _split(data)),
        ("Vocabulary", "; ".join(vocabulary)),
        ("Files", ", ".join(map(str, about.get("files") or ()))),
        ("Test files", ", ".join(map(str, about.get("test_files") or ()))),
        ("Columns", _columns(data.columns or {})),
        ("Made with", _settings({k: v for k, v in (about.get("synthetic") or {}).items() if not isinstance(v, list)})),
        *_each("Model", (_settings(run.model) for run in runs)),
        *_each("Training", (_settings(run.training) for run in runs)),
        ("Tuned", protocol_text(runs)),
    ]
    several = len({protocol_key(run) for run in runs}) > 1
    note = "\n\nRuns with different settings are kept apart and never compared with one another." if several else ""
    return bullets(pairs) + note


def _numbering(data: DataRecord) -> list[str]:
    """How ids were numbered, and whose choice that is; loaders of the user's own number theirs as they like."""
    if data.format == LOADERS:
        return []
    if data.about.get("number_ids") == "random":
        return ["ids are numbered at random (--number-ids random), so that no method gains by their order"]
    return [
        "ids are numbered by falling frequency in the rows trained on, which is a choice of ours: methods whose "
        "neighbouring rows share memory may gain by it, and the same command with --number-ids random shows how much"
    ]


def environment(runs: Sequence[Run]) -> str:
    """Machine and software; what differs among the runs is listed with all its values."""
    known = [run.environment for run in runs]
    values = [(name, sorted({_value(env, name) for env in known} - {""})) for name in _ENVIRONMENT]
    packages = sorted({f"{name} {version}" for env in known for name, version in (env.get("packages") or {}).items()})
    times = sorted(run.created for run in runs if run.created)
    pairs = [(_ENVIRONMENT[name], "; ".join(texts)) for name, texts in values]
    pairs += [("Packages", ", ".join(packages))]
    pairs += [(title, ", ".join(_distinct(runs, title.lower()))) for title in ("Backend", "Device")]
    pairs += [("Run", " to ".join(dict.fromkeys([times[0], times[-1]])) if times else "")]
    mixed = any(len(texts) > 1 for _, texts in values)
    note = "\n\nNot all runs were made in one environment; compare their times with care." if mixed else ""
    return bullets(pairs) + note


def command(runs: Sequence[Run]) -> str:
    """The command that makes these runs again."""
    commands = _distinct(runs, "command")
    return code("\n".join(commands)) if commands else ""


def _value(env: Mapping[str, Any], name: str) -> str:
    value = env.get(name)
    return "" if value is None else numerals.size(value) if name.endswith("_bytes") else str(value)


def _split(data: DataRecord) -> str:
    """How the test part and validation were chosen, in words."""
    seed = data.about.get("split_seed", 0)
    if data.about.get("valid_split") == HALVES:
        return "the first half of the test files is the test part; the second is for validation and chooses the epoch"
    test = {
        "order": "the last fifth of the rows is the test part",
        "random": f"a fifth of the rows, drawn at random with seed {seed}, is the test part",
        "test files": "the test part has files of its own",
    }.get(data.split or "", data.split or "")
    valid = {"order": "the last tenth", "random": "a random tenth"}.get(str(data.about.get("valid_split")))
    return f"{test}; {valid} of the rest is for validation and chooses the epoch" if valid and test else test


def _columns(columns: Mapping[str, Any]) -> str:
    """Which column is what, and what was guessed."""
    guessed = columns.get("guessed") or ()
    shown = []
    for role in ("label", "dense", "sparse"):
        value = columns.get(role)
        names = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        if names:
            shown.append(f"{role}{' (guessed)' if role in guessed else ''}: {names}")
    return "; ".join(shown)


def _settings(settings: Mapping[str, Any]) -> str:
    """What is set, in one line; tables of numbers stay in the record."""
    shown = {k: v for k, v in settings.items() if v is not None and not isinstance(v, dict)}
    pairs = [(str(name).replace("_", " "), records.scalar_text(value)) for name, value in shown.items()]
    return ", ".join(value if name == "name" else f"{name} {value}" for name, value in pairs)


def _each(title: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(title, text) for text in dict.fromkeys(texts)]


def _distinct(runs: Sequence[Run], key: str) -> list[str]:
    return sorted({value for run in runs if (value := getattr(run, key))})
