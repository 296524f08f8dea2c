"""Click models, one file each."""

from __future__ import annotations

import ast
from pathlib import Path

from embpress.dlrm.option import Option
from embpress.kernels import found


def options() -> dict[str, tuple[Option, ...]]:
    """The options of each model by its name: its file is read and not imported, so that help does not wait for torch.

    A class says its `name` and, where it has them, its `options` in its own body, written out.
    """
    known: dict[str, tuple[Option, ...]] = {}
    for file in found.names(__name__):
        for node in found.tree(__name__, file).body:
            lines = node.body if isinstance(node, ast.ClassDef) else []
            said = {ast.unparse(t): line.value for line in lines if isinstance(line, ast.Assign) for t in line.targets}
            if "name" in said:
                source = ast.Expression(said.get("options", ast.Tuple([], ast.Load())))
                code = compile(ast.fix_missing_locations(source), file, "eval")
                known[ast.literal_eval(said["name"])] = eval(code, {"Option": Option, "Path": Path})
    return known
