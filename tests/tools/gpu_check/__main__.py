"""Everything that only a GPU can show, in one command and one folder of results.

    python tests/tools/gpu_check --out runs/gpu-check                the whole check, within ten minutes
    python tests/tools/gpu_check --device cpu --parts agreement,training     parts of it, on the emulated device code

Needs torch (a CUDA build, nvcc beside it), numpy, pandas, click, rich and pytest; installs and downloads nothing. Exit
status 0: no part failed; 1: one did; 2: it cannot run here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

NEEDED = ("torch", "numpy", "pandas", "click", "rich", "pytest")
FOLDERS = ("compressors", "kernels", "dlrm", "reports", "cli", "__init__.py")
TOTAL_S = 585.0


def main() -> int:
    """Runs the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="gpu_check", description="Checks the ops on a GPU.")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda", help="cpu: what can be tried without a GPU"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="folder of the results")
    parser.add_argument("--parts", default="", help="only these, separated by commas")
    parser.add_argument("--total", type=float, default=TOTAL_S, help="seconds for all parts together")
    parser.add_argument("--jobs", type=int, default=_jobs(), help="parts at a time, beside build and benchmarks")
    options = parser.parse_args()
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        return _cannot(f"{', '.join(lacking)} cannot be imported by {sys.executable}")
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        return _cannot(f"torch {torch.__version__} sees no GPU here (--device cpu tries what needs none)")
    from parts import ROOT, WORK, parts
    from runner import FAILED, Result, run_parts
    from summary import write

    folder = options.out.resolve()
    asked = [name for part in options.parts.split(",") if (name := part.strip())]
    found = parts(options.device, folder)
    unknown = set(asked) - {part.name for part in found}
    if unknown:
        return _cannot(f"no part {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in found)}")
    for old in ("logs", "bench", "training"):
        shutil.rmtree(folder / old, ignore_errors=True)
    path = _link(ROOT, WORK)
    results: list[Result] = []
    order = [part.name for part in found]
    about = _about(options.device)

    def done(result: Result) -> None:
        results.append(result)
        results.sort(key=lambda one: order.index(one.name))
        write(folder, options.device, about, results)
        print(f"{result.status:8}{result.name:14}{result.seconds:6.0f} s  {result.why}", flush=True)

    chosen = [part for part in found if not asked or part.name in asked]
    run_parts(chosen, ROOT, folder / "logs", lambda: _environment(path), options.total, done, max(1, options.jobs))
    print(f"results: {options.out / 'summary.md'}")
    return int(any(result.status == FAILED for result in results))


def _jobs() -> int:
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def _cannot(why: str) -> int:
    print(f"gpu-check: {why}", file=sys.stderr)
    return 2


def _link(root: Path, work: Path) -> Path:
    """A folder from which the project imports as `embpress` without being installed."""
    package = work / "path" / "embpress"
    package.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        link = package / name
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(root / name, package))
    return package.parent


def _environment(path: Path) -> dict[str, str]:
    """The variables of every part: the project on Python's path, and its library once that is built."""
    from parts import LIBRARY

    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))}
    found |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    if built := sorted(LIBRARY.glob("_C*.so")):
        found["EMBPRESS_LIBRARY"] = str(built[0])
    return found


def _about(device: str) -> dict[str, Any]:
    import torch

    found = {"Python": sys.version.split()[0], "torch": torch.__version__}
    if device == "cuda":
        found |= {"CUDA": str(torch.version.cuda), "GPU": torch.cuda.get_device_name()}
    return found


if __name__ == "__main__":
    sys.exit(main())
