"""The build of the native ops where a part of it fails."""

import sys

import pytest

pytest.importorskip("setuptools", reason="the build is setuptools'")

from setuptools import Distribution
from torch.utils.cpp_extension import CppExtension

from embpress.kernels import build


def made(tmp_path, monkeypatch, source):
    """What an optional build leaves of an extension with this source, where the CPU's alone is small and sound."""
    sound = tmp_path / "sound.cpp"
    sound.write_text('extern "C" int embpress_sound() { return 1; }\n')
    monkeypatch.setattr(build, "extension", lambda cuda: CppExtension(build.NAME, [str(sound)], py_limited_api=True))
    monkeypatch.chdir(tmp_path)
    distribution = Distribution(
        {
            "name": "embpress-kernels",
            "ext_modules": [CppExtension(build.NAME, [str(source)], py_limited_api=True)],
            "cmdclass": {"build_ext": build.command(optional=True)},
        }
    )
    task = distribution.get_command_obj("build_ext")
    task.build_lib, task.build_temp = str(tmp_path / "lib"), str(tmp_path / "temp")
    distribution.run_command("build_ext")
    return [path.name for path in tmp_path.glob("lib/**/_C*")]


@pytest.fixture(autouse=True)
def compiler():
    import shutil

    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("no C++ compiler")


def test_cuda_kernels_that_do_not_compile_leave_those_of_the_cpu(tmp_path, monkeypatch, capfd):
    wrong = tmp_path / "wrong.cu"
    wrong.write_text("this is no CUDA\n")
    found = made(tmp_path, monkeypatch, wrong)
    assert "embpress: no CUDA kernels: " in capfd.readouterr().out
    assert len(found) == 1
    assert found[0].endswith((".so", ".pyd", ".dylib")), (found, sys.platform)


def test_nothing_that_compiles_leaves_nothing_and_says_so(tmp_path, monkeypatch, capfd):
    wrong = tmp_path / "wrong.cpp"
    wrong.write_text("this is no C++\n")
    assert made(tmp_path, monkeypatch, wrong) == []
    assert "no native kernels, the plain PyTorch ops will answer" in capfd.readouterr().out


def test_a_source_is_compiled_for_lying_there(tmp_path, monkeypatch):
    for name in ("cpu/one.cpp", "cpu/simd/two.cpp", "cuda/three.cu", "cuda/tt/part.cuh", "common/four.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.chdir(tmp_path)
    module = build.extension(cuda=False)
    assert module.sources == ["cpu/one.cpp", "cpu/simd/two.cpp"]
    assert sorted(module.depends) == ["common/four.h", "cuda/tt/part.cuh"]
