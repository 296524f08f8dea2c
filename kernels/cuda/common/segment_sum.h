// The host's side of segment_sum.cuh.
#pragma once

#include "arguments.h"
#include "segment_sum.cuh"

namespace embpress::cuda {

// Writes the sum of every row that has a source; the others are left as they are.
template <class T, class Source>
void sum_segments(Device& device, const Source& source, const Segments& segments, int64_t width, T* out) {
  if (segments.count == 0) return;
  const int64_t pieces = divide_up(segments.count, kSegmentPiece);
  auto *before = device.scratch<Compute<T>>(pieces * width), *after = device.scratch<Compute<T>>(pieces * width);
  const RowGrid grid(pieces, width);
  device.launch(&segment_pieces_kernel<T, Source>, grid.grid, grid.block, 0, source, segments, width, out, before,
                after);
  device.launch(&segment_joins_kernel<T>, grid.grid, grid.block, 0, segments, width, out, before, after);
}

}  // namespace embpress::cuda
