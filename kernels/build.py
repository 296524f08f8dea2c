"""Compiles the native ops: used by setup.py, by `embpress doctor --build` and for builds that tests need.

    python kernels/build.py --sanitize --to FOLDER        CPU kernels with AddressSanitizer and UBSan
    python kernels/build.py --cuda-on-cpu --to FOLDER     the CUDA kernels as CPU code (tests/tools/cuda_on_cpu)
    python kernels/build.py --cuda-on-cpu --coverage --to FOLDER     and with gcov's counters

CUDA kernels are part of the library where torch is a CUDA build and nvcc is there; `EMBPRESS_CUDA=0` leaves them out.
setup.py runs this file by its path, before anything is installed, so it imports nothing of embpress.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EMULATION = HERE.parent / "tests" / "tools" / "cuda_on_cpu"
NAME = "embpress.kernels._C"
# the stable ABI of torch 2.11: one build serves this and later releases
ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"
FLAGS = ("-O3", "-g0", "-std=c++20", ABI, "-fvisibility=hidden")
# sums of products become fused where the processor has them; wide vectors are only passed between inlined functions;
# roots are instructions, which set no errno
KERNEL_FLAGS = ("-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi")
NVCC_FLAGS = ("-O3", "-std=c++20", ABI, "-DUSE_CUDA", "-lineinfo", "-Xcompiler", "-fvisibility=hidden")
ARCHITECTURES = "8.0;9.0+PTX"  # Ampere, Hopper, and what comes later by PTX
EMULATION_FLAGS = ("-DEMBPRESS_CUDA_ON_CPU", f"-I{EMULATION}")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1")
# the counters' files lie beside the objects, which such a build therefore keeps
COVERAGE = ("--coverage", "-fprofile-update=atomic")


def sources(*patterns: str) -> list[str]:
    """The files that match, relative to the working folder where they lie below it."""
    paths = [path for pattern in patterns for path in sorted(HERE.glob(pattern))]
    here = Path.cwd()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths]


def builds_cuda() -> bool:
    """Whether CUDA kernels can be compiled here: a CUDA build of torch, nvcc, and not `EMBPRESS_CUDA=0`."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if os.environ.get("EMBPRESS_CUDA") == "0" or torch.version.cuda is None or CUDA_HOME is None:
        return False
    return shutil.which("nvcc", path=str(Path(CUDA_HOME) / "bin")) is not None


def extension(extra: tuple[str, ...] = (), cuda: bool | None = None) -> Any:
    """The extension module for setuptools, with CUDA kernels or without (default: where they can be compiled).

    Raises:
        ImportError: no torch.
    """
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    cuda = builds_cuda() if cuda is None else cuda
    if cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
    cxx = [*FLAGS, *KERNEL_FLAGS, *extra]
    return (CUDAExtension if cuda else CppExtension)(
        NAME,
        sources("cpu/**/*.cpp", *(["cuda/**/*.cu"] if cuda else [])),
        depends=sources("**/*.h", "cuda/**/*.cuh"),
        extra_compile_args={"cxx": cxx, "nvcc": list(NVCC_FLAGS)} if cuda else cxx,
        extra_link_args=[flag for flag in extra if flag.startswith(("-fsanitize", "--coverage"))],
        py_limited_api=True,
    )


def emulated(work: Path, extra: tuple[str, ...] = ()) -> Any:
    """The extension module of the CUDA kernels as CPU code; `work` takes a file for each that includes it."""
    from torch.utils.cpp_extension import CppExtension

    copies = []
    for source in sorted(HERE.glob("cuda/**/*.cu")):
        copies.append(work / f"{source.stem}.cpp")
        copies[-1].write_text(f'#include "{source}"\n')
    copies += [EMULATION / "module.cpp", HERE / "cpu" / "module.cpp"]
    return CppExtension(
        NAME,
        [str(path) for path in copies],
        extra_compile_args=[*FLAGS, "-O1", "-Wno-unknown-pragmas", *EMULATION_FLAGS, *extra],
        extra_link_args=[flag for flag in extra if flag.startswith(("-fsanitize", "--coverage"))],
        py_limited_api=True,
    )


def command(optional: bool = False) -> Any:
    """The `build_ext` command; `optional` ones that fail say so in one line and go on with less."""
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        extensions: list[Any]

        def run(self) -> None:
            options = {name: getattr(self, name) for name in ("build_lib", "build_temp", "inplace", "editable_mode")}
            try:
                super().run()
            except Exception as error:
                if not optional:
                    raise
                self._without(error, options)

        def _without(self, error: Exception, options: dict[str, Any]) -> None:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            if any(source.endswith(".cu") for module in self.extensions for source in module.sources):
                print(f"embpress: no CUDA kernels: {lines[-1]}")
                self.distribution.ext_modules = [extension(cuda=False)]
                self.initialize_options()  # a run has put its own things in place of the options
                self.__dict__.update(options)
                self.finalize_options()
                self.run()
                return
            print(f"embpress: no native kernels, the plain PyTorch ops will answer: {lines[-1]}")
            self.extensions = []

    return Build.with_options(use_ninja=_has_ninja())


def _has_ninja() -> bool:
    from torch.utils.cpp_extension import is_ninja_available

    return bool(is_ninja_available())


def build(folder: Path, extra: tuple[str, ...] = (), cuda_on_cpu: bool = False) -> Path:
    """Compiles into `folder` and returns the library's path; with gcov's counters the objects stay in there, too.

    Raises:
        ImportError: no torch or no setuptools. Exception: what the compiler says.
    """
    from setuptools import Distribution

    folder.mkdir(parents=True, exist_ok=True)
    counted = "--coverage" in extra
    with tempfile.TemporaryDirectory() if not counted else nullcontext(str((folder / "objects").resolve())) as work:
        Path(work).mkdir(exist_ok=True)
        module = emulated(Path(work), extra) if cuda_on_cpu else extension(extra)
        distribution = Distribution(
            {"name": "embpress-kernels", "ext_modules": [module], "cmdclass": {"build_ext": command()}}
        )
        task = distribution.get_command_obj("build_ext")
        task.build_lib, task.build_temp = str(Path(work) / "lib"), str(Path(work) / "temp")
        distribution.run_command("build_ext")
        (library,) = (Path(work) / "lib").rglob("_C*.so")
        # replaced, not overwritten: a process may have the old one mapped
        target = folder / library.name
        shutil.copy(library, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the native ops.")
    parser.add_argument("--to", type=Path, default=HERE, help="folder of the library (default: beside this file)")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    parser.add_argument("--cuda-on-cpu", action="store_true", help="the CUDA kernels, run on the CPU by an emulation")
    parser.add_argument(
        "--coverage", action="store_true", help="with gcov's counters, beside the objects in the folder"
    )
    options = parser.parse_args()
    extra = (SANITIZERS if options.sanitize else ()) + (COVERAGE if options.coverage else ())
    print(build(options.to, extra, options.cuda_on_cpu))
