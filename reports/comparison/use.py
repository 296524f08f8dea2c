"""What to do with the answer: the command that trains the best method and keeps its weights, or exports them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from embpress.dlrm.runs.checkpoint import checkpoint_path
from embpress.dlrm.runs.record import LOADERS, Run
from embpress.reports.comparison.headline import best
from embpress.reports.summary import Summary
from embpress.reports.text import code, escape, inline_code
from embpress.reports.uncertainty.judge import Judgement

# options that choose among runs: what is used is one method of one size with one seed
_CHOICES = ("--methods", "--method", "--seeds", "--seed", "--ratio", "--budget")
_COMMANDS = ("compare", "train")


def use(runs: Sequence[Run], folder: Path, judged: Judgement | None = None) -> str:
    """Markdown: the one command that uses the best method, and the line that uses it in a model of one's own.

    Empty where the runs have no best method: see `headline.best`.
    """
    row = best(runs, judged)
    if row is None:
        return ""
    command, line = command_of(row, folder), line_of(row)
    if not command:
        return f"To use it in a PyTorch model of your own:\n\n{code(line, 'python')}" if line else ""
    what = "write the model that was trained here" if " export " in command else "train it again and keep the weights"
    also = f"\n\nIn a PyTorch model of your own: {inline_code(line)}" if line else ""
    return f"To {what} ({escape(row.label)}):\n\n{code(command)}{also}"


def use_lines(runs: Sequence[Run], folder: Path, judged: Judgement | None = None) -> list[str]:
    """The same as lines for a terminal."""
    row = best(runs, judged)
    if row is None:
        return []
    told = {"use it": command_of(row, folder), "in a model of your own": line_of(row)}
    return [f"{what}: {text}" for what, text in told.items() if text]


def command_of(row: Summary, folder: Path) -> str:
    """A shell command: exports the weights that the folder keeps, or else makes the run again and keeps them.

    Empty for a model of the user's own, which the command line does not save, and where no record says its command.
    """
    kept = [run for run in row.runs if checkpoint_path(folder, run).exists()]
    if kept:
        run = kept[0]
        size = [] if run.is_full else [part for name, asked in _size(row).items() for part in (f"--{name}", str(asked))]
        chosen = ["--method", run.method, "--seed", str(run.seed), *size]
        return shlex.join(["embpress", "export", str(folder), *chosen, "--to", "served"])
    run = row.runs[0]
    try:
        words = shlex.split(run.command)
    except ValueError:  # a record by hand
        return ""
    if run.data.format == LOADERS or words[:1] != ["embpress"] or words[1:2] not in [[name] for name in _COMMANDS]:
        return ""
    method = ["--methods" if words[1] == "compare" else "--method", run.method]
    seed = ["--seed", str(run.seed)] if words[1] == "train" and run.seed else []
    size = [part for name, asked in _size(row).items() for part in (f"--{name}", str(asked))]
    rest = [word for word in _without(words[2:], _CHOICES) if word != "--keep-weights"]
    return shlex.join([*words[:2], *rest, *method, *size, *seed, "--keep-weights"])


def line_of(row: Summary) -> str:
    """In Python: `compress_model(model, "robe+int4", ratio=16)`; empty for a plan, whose tables are those of here."""
    if row.plan is not None:
        return ""
    own = any(f":{name}=" in row.method for name in ("ratio", "budget"))
    size = "".join(f", {name}={asked}" for name, asked in ({} if own else _size(row)).items())
    return f"compress_model(model, {json.dumps(row.runs[0].method, ensure_ascii=False)}{size})"


def _size(row: Summary) -> dict[str, int | float]:
    """The size that was asked for, as an option or an argument."""
    asked = {"ratio": row.asked_ratio, "budget": row.asked_budget}
    return {name: int(value) if value == int(value) else value for name, value in asked.items() if value is not None}


def _without(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """The words of a command less some options with their values, as `--name value` and `--name=value`."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept
