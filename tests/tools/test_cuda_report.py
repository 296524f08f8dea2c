"""What the compiler says of CUDA kernels and what gcov says of their lines: read right, and wrong where it is wrong."""

import io
import shutil
import subprocess

import pytest
from cuda_report import compile as compile_report
from cuda_report import coverage as coverage_report
from cuda_report import report as cuda_report
from cuda_report.compile import CompilerError, nvcc, usage_of
from cuda_report.coverage import Coverage, merge
from cuda_report.ptxas import Usage, demangle, parse, readable, shorten, spilling
from rich.console import Console

# of nvcc 13.0: two kernels, one calling a function that is not inlined, on two architectures
SAID = """\
ptxas info    : Overriding maximum register limit 256 for '_Z6spillsPKf' with  64 of maxrregcount option
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN8embpress4cuda7indexedILi128EEEvPfi' for 'sm_80'
ptxas info    : Function properties for _ZN8embpress4cuda7indexedILi128EEEvPfi
    64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 27 registers, used 1 barriers, 512 bytes smem, 364 bytes cmem[0]
ptxas info    : Compile time = 26.216 ms
ptxas info    : Compiling entry function '_Z6spillsPKf' for 'sm_80'
ptxas info    : Function properties for _Z6spillsPKf
    1736 bytes stack frame, 2364 bytes spill stores, 2600 bytes spill loads
ptxas info    : Function properties for _Z6calledv
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers, 1736 bytes cumulative stack size, 372 bytes cmem[0]
ptxas info    : Compiling entry function '_Z6spillsPKf' for 'sm_90'
ptxas info    : Function properties for _Z6spillsPKf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 66 registers, used 0 barriers
"""
# a thread holds 200 values at once, which with 64 registers it cannot; the other kernel holds one
SPILLS = """
__global__ void spills(const float* a, float* b, int n) {
  float v[200];
#pragma unroll
  for (int i = 0; i < 200; ++i) v[i] = a[i * n + threadIdx.x];
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int i = 0; i < 200; ++i) v[i] = v[i] * v[(i * 7 + 3) % 200] + a[k];
  }
#pragma unroll
  for (int i = 0; i < 200; ++i) b[i * n + threadIdx.x] = v[i];
}
template <int N> __global__ void copies(const float* a, float* b) {
  __shared__ float room[N];
  room[threadIdx.x] = a[threadIdx.x];
  __syncthreads();
  b[threadIdx.x] = room[N - 1 - threadIdx.x];
}
template __global__ void copies<96>(const float*, float*);
"""


def test_the_output_of_ptxas_is_read():
    assert parse(SAID) == [
        Usage("_ZN8embpress4cuda7indexedILi128EEEvPfi", "sm_80", True, 27, 512, 64, 0, 0),
        Usage("_Z6spillsPKf", "sm_80", True, 64, 0, 1736, 2364, 2600),
        Usage("_Z6calledv", "sm_80", False, 0, 0, 8, 0, 0),
        Usage("_Z6spillsPKf", "sm_90", True, 66, 0, 0, 0, 0),
    ]
    assert [(usage.name, usage.arch) for usage in spilling(parse(SAID))] == [("_Z6spillsPKf", "sm_80")]


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="c++filt is not installed")
def test_names_are_readable_and_short():
    assert [usage.name for usage in readable(parse(SAID))] == ["indexed<128>", "spills", "called", "spills"]
    (long,) = demangle(["_ZN8embpress4cuda4pickIfZNS0_4pickEvEUlPKfE_EEvS4_"])
    assert shorten(long).startswith("pick<float")


def test_a_name_loses_its_arguments_and_keeps_its_templates():
    assert shorten("void embpress::cuda::f<float, (int)4, (bool)1>(float const*, long)") == "f<float, 4, 1>"
    assert shorten("void (anonymous namespace)::g<int (*)(float)>(int)") == "g<int (*)(float)>"


def test_kernels_of_a_library_may_spill():
    ours = Usage("tt_forward_kernel<float>", "sm_90", True, spill_loads=4)
    theirs = Usage("cub::CUB_300001_SM_800_900::DeviceRadixSortKernel<int>", "sm_90", True, spill_stores=4)
    assert spilling([ours, theirs]) == [ours]


@pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed")
def test_a_kernel_that_spills_is_found_by_the_compiler(tmp_path):
    source = tmp_path / "spills.cu"
    source.write_text(SPILLS)
    found = usage_of(source, nvcc(), ["-maxrregcount=64"])
    assert {(usage.name, usage.arch) for usage in found} == {
        (name, arch) for name in ("spills", "copies<96>") for arch in ("sm_80", "sm_90")
    }
    assert {usage.name for usage in spilling(found)} == {"spills"}
    assert {usage.shared for usage in found if usage.name == "copies<96>"} == {4 * 96}
    assert all(0 < usage.registers <= 64 for usage in found)
    source.write_text("__global__ void wrong() { no_such_name(); }")
    with pytest.raises(CompilerError, match=r"spills\.cu does not compile.*no_such_name"):
        usage_of(source, nvcc())


def report(monkeypatch, capsys, *arguments):
    status = cuda_report.main(arguments)
    return status, capsys.readouterr().out


def test_a_spill_fails_the_report_and_is_named(monkeypatch, capsys):
    monkeypatch.setattr(compile_report, "nvcc", lambda: "nvcc")
    monkeypatch.setattr(compile_report, "usage", lambda sources, compiler: {"a.cu": readable(parse(SAID))})
    status, text = report(monkeypatch, capsys, "--only", "compile")
    assert status == 1
    assert "FAILED: a.cu: spills spills on sm_80: 2,364 bytes out, 2,600 back" in text
    assert max(map(len, text.splitlines())) <= 100
    monkeypatch.setattr(compile_report, "usage", lambda sources, compiler: {"a.cu": readable(parse(SAID))[:1]})
    assert report(monkeypatch, capsys, "--only", "compile")[0] == 0


def test_without_nvcc_the_half_is_left_out_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(compile_report, "nvcc", lambda: None)
    status, text = report(monkeypatch, capsys, "--only", "compile")
    assert status == 0
    assert text.strip() == "SKIPPED: nvcc is not installed here, so no CUDA source was compiled"


def test_coverage_under_the_minimum_fails_and_is_named(monkeypatch, capsys):
    found = [Coverage("a.cuh", 95, 100, (3, 4, 5, 9, 40)), Coverage("b.cuh", 70, 100, ())]
    monkeypatch.setattr(coverage_report, "measure", lambda folder, tests: found)
    status, text = report(monkeypatch, capsys, "--only", "coverage")
    assert status == 1
    assert "3-5 9 40" in text
    assert [line for line in text.splitlines() if "FAILED" in line] == [
        "FAILED: b.cuh: the tests run 70.0 % of its lines, less than 90 %"
    ]
    assert report(monkeypatch, capsys, "--only", "coverage", "--min", "70")[0] == 0


@pytest.mark.skipif(not all(map(shutil.which, ("gcov", "g++"))), reason="gcc is not installed")
def test_lines_are_counted_over_all_objects_and_all_instances_of_a_template(tmp_path):
    """The header's line 4 runs in one program only, for one type only; line 5 in neither."""
    cuda, objects = tmp_path / "cuda", tmp_path / "objects"
    cuda.mkdir()
    objects.mkdir()
    header = "template <class T>\nT pick(T a) {\n  if (a > 0)\n    a += 1;\n  if (a < -9) a = 0;\n  return a;\n}\n"
    (cuda / "pick.cuh").write_text(header.replace("if (a < -9) a = 0;", "if (a < -9)\n    a = 0;"))
    for name, call in (("one", "pick(1) - 2"), ("two", "int(pick(-1.0)) + 1")):
        (objects / f"{name}.cpp").write_text(f'#include "{cuda}/pick.cuh"\nint main() {{ return {call}; }}\n')
        build = ["g++", "--coverage", "-O0", "-c", f"{name}.cpp", "-o", f"{name}.o"]
        subprocess.run(build, cwd=objects, check=True)
        subprocess.run(["g++", "--coverage", f"{name}.o", "-o", name], cwd=objects, check=True)
        subprocess.run([objects / name], cwd=objects, check=True)
    (found,) = merge(coverage_report.reports(objects, shutil.which("gcov")), cuda)
    assert (found.file, found.total, found.covered, found.missed) == ("pick.cuh", 6, 5, (6,))
    assert found.share == pytest.approx(5 / 6)


def test_tables_fit_100_columns():
    name = "tt_backward_kernel<" + ", ".join(["embpress::BFloat16"] * 6) + ">"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(cuda_report.usage_table({"tt_backward.cu": [Usage(name, "sm_90", True, 255, 49152, 16, 0, 0)]}))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "49,152" in text
