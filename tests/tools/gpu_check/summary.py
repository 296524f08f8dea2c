"""The check's results as a folder: `summary.md` for people, `gpu-check.json` for programs, beside the logs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner import FAILED, Result

SUMMARY, RECORD = "summary.md", "gpu-check.json"


def write(folder: Path, device: str, about: Mapping[str, Any], results: Sequence[Result]) -> Path:
    """Writes both files as they stand now and returns the summary's path.

    Args:
        folder: of the results; a benchmark's page is `folder/bench/bench-NAME.md`.
        device: what was checked.
        about: versions and the machine, JSON-able.
        results: of the parts so far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": "embpress-gpu-check/1",
        "device": device,
        "about": dict(about),
        "parts": [asdict(one) for one in results],
    }
    records = sorted((folder / "bench").glob("bench-*.json"))
    record["bench"] = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    _replace(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return _replace(folder / SUMMARY, _text(folder, device, about, results))


def _text(folder: Path, device: str, about: Mapping[str, Any], results: Sequence[Result]) -> str:
    failed = [one.name for one in results if one.status == FAILED]
    verdict = f"FAILED: {', '.join(failed)}." if failed else "No part failed."
    lines = [
        f"# Check on {device}",
        "",
        f"{verdict} {', '.join(f'{name} {value}' for name, value in about.items())}.",
        "",
        "| part | result | seconds | why | looks at |",
        "| :--- | :--- | ---: | :--- | :--- |",
    ]
    for one in results:
        name = f"[{one.name}](logs/{one.log})" if one.log else one.name
        why = one.why.replace("|", "\\|")
        lines.append(f"| {name} | {one.status} | {one.seconds:.0f} | {why} | {one.about} |")
    for page in sorted((folder / "bench").glob("bench-*.md")):
        lines += ["", page.read_text(encoding="utf-8").replace("\n## ", "\n### ").replace("# ", "## ", 1).rstrip()]
    return "\n".join(lines) + "\n"


def _replace(path: Path, text: str) -> Path:
    waiting = path.with_name(f".{path.name}.new")
    waiting.write_text(text, encoding="utf-8")
    return waiting.replace(path)
