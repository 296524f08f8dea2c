"""Which folder imports which, that only the command line prints and exits, and how long files are, by their sources."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name

import pytest
from paths import ROOT

LAYERS = ("kernels", "compressors", "dlrm", "reports", "cli")  # each may import those before it
LONGEST = {**dict.fromkeys(LAYERS, 400), "tests": 500}  # lines
SOURCES = (".py", ".cpp", ".h", ".cu", ".cuh")
OF_CLICK_MODELS = r"(embpress\.dlrm|polars|torchmetrics)\b.*"
PRINTS_OR_EXITS = r"(.*\.)?print|exit|quit|sys\.exit|os\._exit|SystemExit"


def files(root, folder, suffixes):
    paths = sorted(path for path in (root / folder).rglob("*") if path.suffix in suffixes)
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def modules(root, *folders):
    """Trees by dotted name, a package's ending in `.__init__`."""
    texts = {path: text for folder in folders for path, text in files(root, folder, (".py",)).items()}
    return {f"embpress.{path[:-3].replace('/', '.')}": ast.parse(text) for path, text in texts.items()}


def nodes(tree, skip=lambda node: False):
    """All nodes but those that `skip` names, and what is in them; the `else` of a skipped `if` stays."""
    for node in ast.iter_child_nodes(tree):
        if not skip(node):
            yield node
            yield from nodes(node, skip)
        elif isinstance(node, ast.If):
            yield from nodes(ast.Module(node.orelse, []), skip)


def is_if(node, test):
    return isinstance(node, ast.If) and re.fullmatch(test, ast.unparse(node.test)) is not None


def imports(name, inside):
    """Dotted names, each with what is imported from its module."""
    for node in inside:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), name.rpartition(".")[0])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def upward_imports(root):
    """Of a folder by one before it: in functions, for types, by its name in a string, through `embpress` itself."""
    for at, folder in enumerate(LAYERS):
        for name, tree in modules(root, folder).items():
            strings = (str(node.value) for node in nodes(tree) if isinstance(node, ast.Constant))
            named = (text for text in strings if re.fullmatch(rf"embpress\.({'|'.join(LAYERS)})\b[\w.]*", text))
            above = rf"embpress\b(?!\.({'|'.join(LAYERS[: at + 1])})\b)"
            wanted = (*imports(name, nodes(tree)), *named)
            yield from (f"{name} imports {each}" for each in wanted if re.match(above, each))


def circles(root):
    """Of modules that import each other while they are imported: not in functions, not for types."""

    def later(node):
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        return function or is_if(node, r"(typing\.)?TYPE_CHECKING")

    for folder in LAYERS:
        trees = modules(root, folder)
        graph = {name: set() for name in trees}
        for name, tree in trees.items():
            for each in imports(name, nodes(tree, later)):
                module = each.rpartition(".")[0]  # where the last part is no module but a name in one
                candidates = (each, f"{each}.__init__", module, f"{module}.__init__")
                graph[name].update([candidate for candidate in candidates if candidate in trees][:1])
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            yield " ← ".join(error.args[1])


def click_models_in_compressors(root):
    for name, tree in modules(root, "kernels", "compressors").items():
        yield from (f"{name} imports {each}" for each in imports(name, nodes(tree)) if re.match(OF_CLICK_MODELS, each))


def prints_and_exits(root):
    """Outside of `cli`; what is run as a script may, and so may the build."""
    for name, tree in modules(root, *LAYERS[:-1]).items():
        for node in nodes(tree, lambda node: is_if(node, "__name__ == '__main__'")):
            what = ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
            if re.fullmatch(PRINTS_OR_EXITS, what) and name != "embpress.kernels.build":
                yield f"{name}, line {node.lineno}: {what}"


def long_files(root):
    for folder, maximum in LONGEST.items():
        lines = {path: len(text.splitlines()) for path, text in files(root, folder, SOURCES).items()}
        yield from (f"{path}: {count} lines, at most {maximum}" for path, count in lines.items() if count > maximum)


BROKEN = [
    (upward_imports, "kernels/a.py", "from embpress.compressors import create"),
    (upward_imports, "compressors/methods/a.py", "def f():\n    import embpress.dlrm.data"),
    (upward_imports, "dlrm/a.py", "if TYPE_CHECKING:\n    from embpress import reports"),
    (upward_imports, "reports/plotting/__init__.py", "from ...cli import show"),
    (upward_imports, "kernels/a.py", "import_module(f'embpress.cli.{name}')"),
    (upward_imports, "kernels/a.py", "from embpress import create"),
    (circles, "kernels/ops.py", "from embpress.kernels import load"),
    (circles, "kernels/ops.py", "try:\n    import embpress.kernels.load as load\nfinally:\n    pass"),
    (circles, "kernels/ops.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from .load import library"),
    (circles, "kernels/ops.py", "class A:\n    from embpress.kernels.load import library"),
    (circles, "kernels/__init__.py", "from embpress.kernels.load import library"),
    (click_models_in_compressors, "compressors/a.py", "def f():\n    from embpress.dlrm.models import dlrm"),
    (click_models_in_compressors, "compressors/a.py", "from torchmetrics import Metric"),
    (prints_and_exits, "kernels/cpu/build.py", "print(1)"),
    (prints_and_exits, "compressors/a.py", "console().print(1)"),
    (prints_and_exits, "reports/a.py", "def f():\n    sys.exit(1)"),
    (prints_and_exits, "dlrm/a.py", "raise SystemExit"),
    (prints_and_exits, "dlrm/a.py", "if __name__ == '__main__':\n    pass\nelse:\n    print(1)"),
    (long_files, "kernels/cuda/a.cuh", "\n" * 401),
    (long_files, "tests/a/test_a.py", "\n" * 501),
]
SOUND = {
    "kernels/__init__.py": "",
    "kernels/load.py": "import embpress.kernels, embpress.kernels.ops as ops" + "\n" * 400,
    "kernels/build.py": "print(1)",
    "compressors/a.py": "if TYPE_CHECKING:\n    import embpress.compressors.b\n'not for embpress.dlrm'",
    "compressors/b.py": "import embpress.compressors.a\ndef f():\n    from embpress.kernels import ops",
    "dlrm/a.py": "from embpress.compressors import b\nif __name__ == '__main__':\n    print(sys.exit(1))",
    "cli/a.py": "import embpress.reports, embpress.dlrm.a\nprint(1)\nraise SystemExit(1)",
    "tests/test_a.py": "\n" * 500,
}
RULES = (upward_imports, circles, click_models_in_compressors, prints_and_exits, long_files)


def made(root, texts):
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_holds(rule, tmp_path):
    assert list(rule(made(tmp_path, SOUND))) == []
    assert list(rule(ROOT)) == []


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_a_rule_can_fail(rule, path, text, tmp_path):
    assert len(list(rule(made(tmp_path, {**SOUND, path: text})))) == 1
