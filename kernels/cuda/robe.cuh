// ROBE-Z on the GPU: hashes are computed where they are needed, in registers, forward and backward; no index is stored.
//
// The backward's sum has a fixed order. The chunks that lookups took are sorted by where they start in the array, one
// key a chunk. A warp owns 32 positions of the array and adds up, in sorted order, all chunks that reach into them:
// they start in one range of the sorted ones. Where a range is long (a frequent id, a small array), the pieces of
// kRobePiece sorted chunks that lie in it have been summed before, each by a warp of its own.
#pragma once

#include "common/hash.cuh"
#include "common/lookups.cuh"

namespace embpress::cuda {

#ifdef EMBPRESS_CUDA_ON_CPU
constexpr int kRobePiece = 8;  // small, so that small tests cut ranges into pieces
#else
constexpr int kRobePiece = 256;
#endif
constexpr int kTile = 32;  // positions of a warp

// What a call knows of the hash, and how rows are cut into chunks.
struct Robe {
  const int64_t* coefficients;  // R1 R2 R3, and three more where elements have signs
  bool sign;
  Divisor slots;    // where a chunk can start, at most P of them are taken
  uint32_t starts;  // every start is below this one
  int z, dim;
  Divisor chunk;       // z
  Divisor row_chunks;  // chunks of a row

  __device__ __forceinline__ uint32_t start(uint32_t x, uint32_t j) const {
    const uint64_t added = static_cast<uint64_t>(j) * static_cast<uint32_t>(coefficients[1]);
    return slots.remainder(hash_once(x, coefficients[2], added + coefficients[0]));
  }
  // odd where the element of this column is negative; of the next column: add coefficients[4], modulo P
  __device__ __forceinline__ uint32_t parity(uint32_t x, uint32_t column) const {
    const uint64_t added = static_cast<uint64_t>(column) * static_cast<uint32_t>(coefficients[4]);
    return hash_once(x, coefficients[5], added + coefficients[3]);
  }
  __device__ __forceinline__ uint32_t next_parity(uint32_t value) const {
    value += static_cast<uint32_t>(coefficients[4]);
    return value >= kPrime ? value - kPrime : value;
  }
};

// blockDim (columns / V, rows); V elements a thread lie in one chunk
template <class T, int V>
__global__ void robe_lookup_kernel(const T* memory, Lookups lookups, Robe robe, T* out) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
  if (i >= lookups.count) return;
  const int64_t row = lookups.row(i);
  const uint32_t x = static_cast<uint32_t>(row);
  for (int column = threadIdx.x * V; column < robe.dim; column += blockDim.x * V) {
    Pack<T, V> values;
    if (row < 0) {
      for (int k = 0; k < V; ++k) values.v[k] = narrow<T>(0);
    } else {
      const uint32_t j = robe.chunk.quotient(column);
      const T* from = memory + robe.start(x, j) + (column - static_cast<int>(j) * robe.z);
#pragma unroll
      for (int k = 0; k < V; ++k) values.v[k] = from[k];  // chunks start anywhere: these loads cannot be wider
      if (robe.sign) {
        uint32_t parity = robe.parity(x, column);
#pragma unroll
        for (int k = 0; k < V; ++k, parity = robe.next_parity(parity))
          if (parity & 1) values.v[k] = narrow<T>(-widen(values.v[k]));
      }
    }
    *reinterpret_cast<Pack<T, V>*>(out + i * robe.dim + column) = values;
  }
}

// --- the gradient, by atomic additions
// --------------------------------------------------------------------------------

template <class T>
__global__ void robe_scatter_kernel(const T* grad, Lookups lookups, Robe robe, Compute<T>* sum) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
  if (i >= lookups.count) return;
  const int64_t row = lookups.row(i);
  if (row < 0) return;
  const uint32_t x = static_cast<uint32_t>(row);
  for (int column = threadIdx.x; column < robe.dim; column += blockDim.x) {
    const uint32_t j = robe.chunk.quotient(column);
    Compute<T> value = widen(grad[i * robe.dim + column]);
    if (robe.sign && robe.parity(x, column) & 1) value = -value;
    atomicAdd(sum + robe.start(x, j) + (column - static_cast<int>(j) * robe.z), value);
  }
}

template <class T>
__global__ void narrow_kernel(const Compute<T>* from, T* to, int64_t count) {
  const int64_t i = global_thread();
  if (i < count) to[i] = narrow<T>(from[i]);
}

// --- the gradient, in a fixed order
// -----------------------------------------------------------------------------------

// One key a chunk, where it starts; lookups out of range come last.
static __global__ void robe_keys_kernel(Lookups lookups, Robe robe, int64_t chunks, uint32_t* keys, uint32_t* numbers) {
  const int64_t c = global_thread();
  if (c >= chunks) return;
  const uint32_t i = robe.row_chunks.quotient(static_cast<uint32_t>(c));
  const int64_t row = lookups.row(i);
  const uint32_t j = static_cast<uint32_t>(c) - i * robe.row_chunks.by;
  keys[c] = row < 0 ? robe.starts : robe.start(static_cast<uint32_t>(row), j);
  numbers[c] = static_cast<uint32_t>(c);
}

// The sorted chunks, and the gradient that they are pieces of.
template <class T>
struct SortedChunks {
  const uint32_t* keys;
  const uint32_t* numbers;
  int64_t count;
  const T* grad;
  Lookups lookups;
  Robe robe;

  // What chunks `begin` to `end` add to a position. For a whole warp: each lane has its own position, all have one
  // range. A lane finds out about one chunk at a time and tells the others.
  __device__ __forceinline__ Compute<T> sum(int64_t begin, int64_t end, uint32_t position) const {
    constexpr int kAtOnce = 4;  // loads under way
    const int lane = threadIdx.x % 32;
    Compute<T> total = 0;
    for (int64_t first = begin; first < end; first += 32) {
      uint32_t start = 0, length = 0, parity = 0;
      int64_t from = 0;
      if (first + lane < end) {
        const uint32_t c = numbers[first + lane], i = robe.row_chunks.quotient(c);
        const uint32_t column = (c - i * robe.row_chunks.by) * robe.z, rest = robe.dim - column;
        start = keys[first + lane];
        length = rest < static_cast<uint32_t>(robe.z) ? rest : robe.z;
        from = static_cast<int64_t>(i) * robe.dim + column;
        if (robe.sign) parity = robe.parity(static_cast<uint32_t>(lookups.row(i)), column);
      }
      if (robe.z == 1) {  // one element a chunk: each lane loads its own
        Compute<T> value = length ? widen(grad[from]) : Compute<T>{0};
        if (parity & 1) value = -value;
        for (int k = 0; k < 32; ++k) {
          const uint32_t at = __shfl_sync(0xffffffffu, start, k);
          const bool there = __shfl_sync(0xffffffffu, length, k);
          const Compute<T> other = __shfl_sync(0xffffffffu, value, k);
          if (there && at == position) total += other;
        }
        continue;
      }
      const int taken = end - first < 32 ? static_cast<int>(end - first) : 32;
      for (int k = 0; k < taken; k += kAtOnce) {
        Compute<T> value[kAtOnce];
#pragma unroll
        for (int m = 0; m < kAtOnce; ++m) {  // chunks after the last one have no length
          const uint32_t column = position - __shfl_sync(0xffffffffu, start, k + m);
          const bool within = column < __shfl_sync(0xffffffffu, length, k + m);
          const int64_t source = __shfl_sync(0xffffffffu, from, k + m);
          value[m] = within ? widen(grad[source + column]) : Compute<T>{0};
          if (robe.sign) {
            const uint64_t added = static_cast<uint64_t>(column) * static_cast<uint32_t>(robe.coefficients[4]);
            const uint32_t odd = modulo_prime(__shfl_sync(0xffffffffu, parity, k + m) + (within ? added : 0)) & 1;
            if (odd) value[m] = -value[m];
          }
        }
#pragma unroll
        for (int m = 0; m < kAtOnce; ++m) total += value[m];
      }
    }
    return total;
  }
};

// Where the chunks that reach into a tile begin and end among the sorted ones.
static __global__ void robe_ranges_kernel(const uint32_t* keys, int64_t chunks, Robe robe, int64_t tiles,
                                          uint32_t* ranges) {
  const int64_t tile = global_thread();
  if (tile >= tiles) return;
  const int64_t begin = tile * kTile - robe.z + 1, end = (tile + 1) * kTile, limit = robe.starts;
  ranges[2 * tile] = static_cast<uint32_t>(lower_bound(keys, chunks, begin < 0 ? 0 : begin < limit ? begin : limit));
  ranges[2 * tile + 1] = static_cast<uint32_t>(lower_bound(keys, chunks, end < limit ? end : limit));
}

// Positions that a piece's sums can have: one that lies in a tile's range starts within z + kTile - 1 elements.
inline __host__ __device__ int64_t robe_piece_width(int z) {
  return (2 * static_cast<int64_t>(z) + 2 * kTile - 3) / kTile * kTile;
}

// Sums of the pieces that can lie in the range of a tile: a warp for 32 positions of a piece.
template <class T>
__global__ void __launch_bounds__(256, 4) robe_pieces_kernel(SortedChunks<T> sorted, int64_t pieces, Compute<T>* sums) {
  const int64_t width = robe_piece_width(sorted.robe.z), groups = width / kTile;
  const int64_t warp = global_thread() / 32, piece = warp / groups, offset = warp % groups * kTile;
  if (piece >= pieces) return;
  const int64_t begin = piece * kRobePiece, end = begin + kRobePiece;
  const uint32_t first = sorted.keys[begin], last = sorted.keys[end - 1];
  if (last >= sorted.robe.starts || last - first >= static_cast<uint32_t>(sorted.robe.z + kTile - 1)) return;
  if (offset >= static_cast<int64_t>(last - first) + sorted.robe.z) return;
  const int lane = threadIdx.x % 32;
  sums[piece * width + offset + lane] = sorted.sum(begin, end, first + static_cast<uint32_t>(offset) + lane);
}

// The gradient: a warp a tile.
template <class T>
__global__ void __launch_bounds__(256, 4)
    robe_gather_kernel(SortedChunks<T> sorted, const uint32_t* ranges, const Compute<T>* sums, int64_t tiles,
                       int64_t size, T* out) {
  const int64_t tile = global_thread() / 32, position = tile * kTile + threadIdx.x % 32;
  if (tile >= tiles) return;
  const int64_t begin = ranges[2 * tile], end = ranges[2 * tile + 1];
  // the pieces that lie wholly within, where there are enough to be worth it
  const bool cut = end - begin > 2 * kRobePiece;
  const int64_t first = cut ? (begin + kRobePiece - 1) / kRobePiece : 0, last = cut ? end / kRobePiece : 0;
  const int64_t width = robe_piece_width(sorted.robe.z);
  Compute<T> total = 0;
#pragma unroll 1
  for (int part = 0; part < 2; ++part) {
    const int64_t from = part == 0 ? begin : last * kRobePiece, to = part == 0 && cut ? first * kRobePiece : end;
    if (part == 0 || cut) total += sorted.sum(from, to, static_cast<uint32_t>(position));
    if (part == 1 || !cut) continue;
#pragma unroll 4
    for (int64_t piece = first; piece < last; ++piece) {
      const uint32_t start = sorted.keys[piece * kRobePiece], offset = static_cast<uint32_t>(position) - start;
      const uint32_t reach = sorted.keys[(piece + 1) * kRobePiece - 1] - start + sorted.robe.z;
      if (offset < reach) total += sums[piece * width + offset];
    }
  }
  if (position < size) out[position] = narrow<T>(total);
}

}  // namespace embpress::cuda
