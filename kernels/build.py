"""Compiles the native ops: used by setup.py, by `embpress doctor --build` and for builds with sanitizers.

    python kernels/build.py --sanitize --to FOLDER

setup.py runs this file by its path, before anything is installed, so it imports nothing of embpress.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAME = "embpress.kernels._C"
# the stable ABI of torch 2.11: one build serves this and later releases
FLAGS = ("-O3", "-g0", "-std=c++20", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-fvisibility=hidden")
# sums of products become fused where the processor has them; wide vectors are only passed between inlined functions
KERNEL_FLAGS = ("-ffp-contract=fast", "-Wno-psabi")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1")


def sources() -> list[str]:
    """The C++ files, relative to the folder above this one where that is the working folder."""
    found = sorted(HERE.glob("cpu/*.cpp"))
    here = Path.cwd()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in found]


def extension(sanitize: bool = False) -> Any:
    """The extension module for setuptools; ImportError without torch."""
    from torch.utils.cpp_extension import CppExtension

    extra = SANITIZERS if sanitize else ()
    return CppExtension(
        NAME,
        sources(),
        depends=[str(path) for path in sorted(HERE.glob("cpu/*.h"))],
        extra_compile_args=[*FLAGS, *KERNEL_FLAGS, *extra],
        extra_link_args=list(extra[:1]),
        py_limited_api=True,
    )


def command(optional: bool = False) -> Any:
    """The `build_ext` command; `optional` ones that fail say so in one line and go on without native ops."""
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                if not optional:
                    raise
                lines = str(error).strip().splitlines() or [type(error).__name__]
                print(f"embpress: no native kernels, the plain PyTorch ops will answer: {lines[-1]}")
                self.extensions: list[Any] = []

    return Build.with_options(use_ninja=_has_ninja())


def _has_ninja() -> bool:
    from torch.utils.cpp_extension import is_ninja_available

    return bool(is_ninja_available())


def build(folder: Path, sanitize: bool = False) -> Path:
    """Compiles into `folder` and returns the library's path.

    Raises:
        ImportError: no torch or no setuptools. Exception: what the compiler says.
    """
    from setuptools import Distribution

    with tempfile.TemporaryDirectory() as work:
        distribution = Distribution(
            {"name": "embpress-kernels", "ext_modules": [extension(sanitize)], "cmdclass": {"build_ext": command()}}
        )
        task = distribution.get_command_obj("build_ext")
        task.build_lib, task.build_temp = str(Path(work) / "lib"), str(Path(work) / "temp")
        distribution.run_command("build_ext")
        (library,) = (Path(work) / "lib").rglob("_C*.so")
        folder.mkdir(parents=True, exist_ok=True)
        # replaced, not overwritten: a process may have the old one mapped
        target = folder / library.name
        shutil.copy(library, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the native ops.")
    parser.add_argument("--to", type=Path, default=HERE, help="folder of the library (default: beside this file)")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    options = parser.parse_args()
    print(build(options.to, options.sanitize))
