// Runs CUDA device code on the CPU, for tests: every CUDA thread of a block is a fibre, blocks run one after another.
//
// It proves indexing, arithmetic and that barriers are reached by all; it is no proof of the memory model and says
// nothing about speed. Shared and scratch memory start as NaN, and a barrier that some threads never reach is reported
// as a deadlock. Sanitizers and debuggers work, as all fibres run on one thread of the system.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace cuda_on_cpu {

constexpr unsigned char kPoison = 0xFF;  // NaN in every floating-point format, -1 as an integer

struct Barrier {
  int arrived = 0;
  uint64_t generation = 0;
};

struct Fibre {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  dim3 index;
  bool done = false;
};

struct State {
  std::mutex one_launch;
  std::vector<Fibre> fibres;  // their stacks are used again by the next block
  std::vector<uint64_t> shared;
  std::vector<Barrier> warp;
  std::vector<uint64_t> exchange;  // one slot a thread, for shuffles
  Barrier block;
  ucontext_t scheduler;
  int threads = 0, current = 0, alive = 0;
  std::function<void()> body;
};

inline State& state() {
  static State s;
  return s;
}

inline void yield() {
  State& s = state();
  swapcontext(&s.fibres[s.current].context, &s.scheduler);
}

inline void wait(Barrier& b, int expected) {
  const uint64_t generation = b.generation;
  if (++b.arrived >= expected) {
    b.arrived = 0;
    ++b.generation;
  } else {
    while (b.generation == generation) yield();
  }
}

inline void run_fibre() {
  State& s = state();
  s.body();
  s.fibres[s.current].done = true;
  // a thread that has returned no longer holds a barrier up
  if (--s.alive && s.block.arrived >= s.alive && s.block.arrived) {
    s.block.arrived = 0;
    ++s.block.generation;
  }
  swapcontext(&s.fibres[s.current].context, &s.scheduler);
}

inline int warp_size_of(int thread) { return std::min<int>(warpSize, state().threads - thread / warpSize * warpSize); }

inline void run_block(dim3 index, dim3 block, size_t shared_bytes) {
  constexpr size_t kStack = 128 * 1024;
  State& s = state();
  const int threads = s.threads = int(block.x * block.y * block.z);
  s.shared.assign(shared_bytes / 8 + 2, ~uint64_t{0});
  if (int(s.fibres.size()) < threads) s.fibres.resize(threads);
  s.warp.assign((threads + warpSize - 1) / warpSize, Barrier{});
  s.exchange.assign(threads, 0);
  s.block = Barrier{};
  s.alive = threads;
  for (int t = 0; t < threads; ++t) {
    Fibre& f = s.fibres[t];
    f.done = false;
    f.index = dim3(t % block.x, t / block.x % block.y, t / (block.x * block.y));
    if (!f.stack) f.stack.reset(new char[kStack]);
    getcontext(&f.context);
    f.context.uc_stack = {f.stack.get(), 0, kStack};
    f.context.uc_link = &s.scheduler;
    makecontext(&f.context, run_fibre, 0);
  }
  // EMBPRESS_THREADS=backwards: a value that is read without a barrier after its writing is caught in one order or the
  // other
  const char* order = std::getenv("EMBPRESS_THREADS");
  const bool backwards = order && std::strcmp(order, "backwards") == 0;
  for (uint64_t idle = 0; s.alive > 0;)
    for (int turn = 0; turn < threads; ++turn) {
      s.current = backwards ? threads - 1 - turn : turn;
      Fibre& f = s.fibres[s.current];
      if (f.done) continue;
      const int before = s.alive;
      const uint64_t generation = s.block.generation;
      threadIdx = f.index;
      blockIdx = index;
      swapcontext(&s.scheduler, &f.context);
      idle = before == s.alive && generation == s.block.generation ? idle + 1 : 0;
      if (idle > uint64_t{64} * 1024 * threads)
        throw std::runtime_error("deadlock: threads wait at barriers that others never reach");
    }
}

template <typename... P, typename... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A... args) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.one_launch);
  if (block.x * block.y * block.z < 1 || block.x * block.y * block.z > 1024)
    throw std::runtime_error("a block has 1 to 1024 threads");
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 || grid.z > 65535)
    throw std::runtime_error("a grid has 1 to 2^31 - 1 by 65535 by 65535 blocks");
  gridDim = grid;
  blockDim = block;
  s.body = [=] { kernel(static_cast<P>(args)...); };
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) run_block(dim3(x, y, z), block, shared_bytes);
}

}  // namespace cuda_on_cpu

inline void __syncthreads() {
  auto& s = cuda_on_cpu::state();
  cuda_on_cpu::wait(s.block, s.alive);
}
inline void __syncwarp(unsigned = 0xffffffffu) {
  auto& s = cuda_on_cpu::state();
  cuda_on_cpu::wait(s.warp[s.current / warpSize], cuda_on_cpu::warp_size_of(s.current));
}

namespace cuda_on_cpu {
inline int lane() { return state().current % warpSize; }

template <typename T>
T shuffle_from(T value, int source_lane) {
  State& s = state();
  const int me = s.current, base = me / warpSize * warpSize;
  static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
  std::memcpy(&s.exchange[me], &value, sizeof(T));
  __syncwarp();
  T out;
  std::memcpy(&out, &s.exchange[base + std::min(source_lane, warp_size_of(me) - 1)], sizeof(T));
  __syncwarp();
  return out;
}
}  // namespace cuda_on_cpu

template <typename T>
T __shfl_sync(unsigned, T v, int source, int width = 32) {
  const int lane = cuda_on_cpu::lane();
  return cuda_on_cpu::shuffle_from(v, lane / width * width + source % width);
}
template <typename T>
T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
  return cuda_on_cpu::shuffle_from(v, cuda_on_cpu::lane() ^ mask);
}
template <typename T>
T __shfl_down_sync(unsigned, T v, unsigned by, int width = 32) {
  const int lane = cuda_on_cpu::lane();
  return cuda_on_cpu::shuffle_from(v, lane % width + int(by) < width ? lane + int(by) : lane);
}
template <typename T>
T __shfl_up_sync(unsigned, T v, unsigned by, int width = 32) {
  const int lane = cuda_on_cpu::lane();
  return cuda_on_cpu::shuffle_from(v, lane % width >= int(by) ? lane - int(by) : lane);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  unsigned votes = 0;
  for (int source = 0; source < warpSize; ++source) {
    const bool there = source < cuda_on_cpu::warp_size_of(cuda_on_cpu::state().current);
    const int vote = cuda_on_cpu::shuffle_from(int(predicate), source);
    if (there && vote) votes |= 1u << source;
  }
  return votes;
}
inline bool __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) != 0; }
template <typename T>
T min(T a, T b) {
  return std::min(a, b);
}
template <typename T>
T max(T a, T b) {
  return std::max(a, b);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}

// atomics: fibres never run at the same time
template <typename T>
T atomicAdd(T* p, T v) {
  const T old = *p;
  *p = old + v;
  return old;
}
template <typename T>
T atomicMin(T* p, T v) {
  const T old = *p;
  *p = std::min(old, v);
  return old;
}
template <typename T>
T atomicMax(T* p, T v) {
  const T old = *p;
  *p = std::max(old, v);
  return old;
}
template <typename T>
T atomicCAS(T* p, T expected, T v) {
  const T old = *p;
  if (old == expected) *p = v;
  return old;
}
template <typename T>
T __ldg(const T* p) {
  return *p;
}
