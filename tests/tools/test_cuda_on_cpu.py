"""The emulation that device code is tested on: what it computes, and that it sees the mistakes it is there for."""

import os
import shutil
import subprocess

import pytest
from paths import TOOLS

HERE = TOOLS / "cuda_on_cpu"
COMPILER = shutil.which(os.environ.get("CXX", "g++"))

PROGRAM = """
#include "cuda_on_cpu.h"

#include <cstdio>
#include <numeric>

__device__ float* shared() { return reinterpret_cast<float*>(cuda_on_cpu::state().shared.data()); }

// out = sum of x over all blocks: shared memory, shuffles, a barrier and an atomic
__global__ void sum(const float* x, float* out, int n) {
  float* partial = shared();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float v = i < n ? x[i] : 0.f;
  for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0)
    for (unsigned w = 0; w < blockDim.x / 32; ++w) atomicAdd(out, partial[w]);
}

// out[t] = x[t + shift], through shared memory
__global__ void shifted(const float* x, float* out, int shift, bool barrier) {
  float* staged = shared();
  const int n = blockDim.x, t = threadIdx.x;
  staged[t] = x[t];
  if (barrier) __syncthreads();
  out[t] = staged[(t + shift + n) % n];
}

__global__ void half_waits(int) {
  if (threadIdx.x < 5)
    __syncwarp();
  else
    __syncthreads();
}

__global__ void reads_unwritten(float* out) { *out = shared()[3]; }

int main() {
  using cuda_on_cpu::launch;
  float x[1000], out = 0, row[64];
  std::iota(x, x + 1000, 0.f);
  launch(sum, dim3(16), dim3(64), 64, x, &out, 1000);
  std::printf("sum %g\\n", out);
  for (const int shift : {1, -1})
    for (const bool barrier : {true, false}) {
      launch(shifted, dim3(1), dim3(64), 256, x, row, shift, barrier);
      int wrong = 0;
      for (int t = 0; t < 64; ++t) wrong += !(row[t] == x[(t + shift + 64) % 64]);
      std::printf("shift %d %s %d\\n", shift, barrier ? "barrier" : "none", wrong);
    }
  launch(reads_unwritten, dim3(1), dim3(1), 64, &out);
  std::printf("unwritten %s\\n", out != out ? "nan" : "a number");
  try {
    launch(half_waits, dim3(1), dim3(8), 0, 0);
    std::printf("no deadlock\\n");
  } catch (const std::runtime_error& error) {
    std::printf("%s\\n", error.what());
  }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("emulation")
    (folder / "main.cpp").write_text(PROGRAM)
    command = [COMPILER, "-std=c++20", "-O1", f"-I{HERE}", str(folder / "main.cpp"), "-o", str(folder / "main")]
    subprocess.run(command, check=True)
    return folder / "main"


def lines(program, **environment):
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, env={**os.environ, **environment}, check=True, timeout=300
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_what_it_computes_and_what_it_catches(program, order):
    found = lines(program, EMBPRESS_THREADS=order)
    assert found[0] == f"sum {sum(range(1000))}"
    wrong = {tuple(line.split()[1:3]): int(line.split()[3]) for line in found[1:5]}
    assert wrong["1", "barrier"] == wrong["-1", "barrier"] == 0
    # threads that run one after another read what the ones before have written: each order sees half of the mistakes
    seen, missed = ("1", "-1") if order == "forwards" else ("-1", "1")
    assert wrong[seen, "none"] == 63
    assert wrong[missed, "none"] == 1
    assert found[5] == "unwritten nan"
    assert found[6] == "deadlock: threads wait at barriers that others never reach"
