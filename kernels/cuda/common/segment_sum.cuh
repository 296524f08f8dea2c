// Sums of many rows into few, in a fixed order: sources sorted by the row they belong to.
//
// The sorted sources are cut into pieces of kSegmentPiece. A row whose sources all lie in one piece is written at once;
// of the others each piece leaves its part, and where a row's first piece ends its parts are added up. So a row that
// most sources belong to does not keep one thread busy with all of them.
#pragma once

#include "lookups.cuh"

namespace embpress::cuda {

#ifdef EMBPRESS_CUDA_ON_CPU
constexpr int kSegmentPiece = 8;  // small, so that small tests cut rows into pieces
#else
constexpr int kSegmentPiece = 128;
#endif

// Sorted: source `sources[e]` belongs to row `rows[e]`; those of rows from `limit` on belong to none.
struct Segments {
  const uint32_t* rows;
  const uint32_t* sources;
  int64_t count;
  uint32_t limit;
};

// `source(number, column)` is an element of a source; blockDim (columns, pieces). `before` and `after` take `width`
// elements a piece: its part of a row that began in an earlier piece, and of one that goes on in the next.
template <class T, class Source>
__global__ void __launch_bounds__(256) segment_pieces_kernel(Source source, Segments segments, int64_t width, T* out,
                                                             Compute<T>* before, Compute<T>* after) {
  constexpr int kAtOnce = 4;  // loads under way
  const int64_t piece = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y, begin = piece * kSegmentPiece;
  if (begin >= segments.count) return;
  const int64_t end = begin + kSegmentPiece < segments.count ? begin + kSegmentPiece : segments.count;
  const uint32_t *rows = segments.rows, limit = segments.limit;
  const bool goes_on = end < segments.count && rows[end] == rows[end - 1];
  for (int64_t column = threadIdx.x; column < width; column += blockDim.x) {
    uint32_t row = rows[begin];
    bool began_before = begin > 0 && rows[begin - 1] == row;
    Compute<T> total = 0;
    const auto write = [&] {
      if (began_before)
        before[piece * width + column] = total;
      else if (row < limit)
        out[row * width + column] = narrow<T>(total);
    };
    for (int64_t e = begin; e < end; e += kAtOnce) {
      uint32_t next[kAtOnce];
      Compute<T> value[kAtOnce];
#pragma unroll
      for (int m = 0; m < kAtOnce; ++m) {
        next[m] = e + m < end ? rows[e + m] : limit;
        value[m] = next[m] < limit ? source(segments.sources[e + m], column) : Compute<T>{0};
      }
#pragma unroll
      for (int m = 0; m < kAtOnce; ++m) {
        if (e + m >= end) break;
        if (next[m] != row) {
          write();
          row = next[m];
          total = 0;
          began_before = false;
        }
        total += value[m];
      }
    }
    if (goes_on && !began_before)
      after[piece * width + column] = total;
    else
      write();
  }
}

// Adds up the parts of rows that lie in several pieces; the same grid.
template <class T>
__global__ void __launch_bounds__(256)
    segment_joins_kernel(Segments segments, int64_t width, T* out, const Compute<T>* before, const Compute<T>* after) {
  const int64_t piece = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y, begin = piece * kSegmentPiece;
  const int64_t end = begin + kSegmentPiece;
  if (end >= segments.count) return;
  const uint32_t *rows = segments.rows, row = rows[end - 1];
  const bool began_before = begin > 0 && rows[begin - 1] == row;
  if (row >= segments.limit || rows[end] != row || began_before) return;
  const int64_t last = (end + lower_bound(rows + end, segments.count - end, uint64_t{row} + 1) - 1) / kSegmentPiece;
  for (int64_t column = threadIdx.x; column < width; column += blockDim.x) {
    Compute<T> total = after[piece * width + column];
#pragma unroll 4
    for (int64_t other = piece + 1; other <= last; ++other) total += before[other * width + column];
    out[row * width + column] = narrow<T>(total);
  }
}

}  // namespace embpress::cuda
