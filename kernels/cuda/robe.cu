// embpress::robe_lookup and its gradient on the GPU; schemas and meanings stand in kernels/ops/robe.py.
#include <torch/csrc/stable/library.h>

#include "common/arguments.h"
#include "common/wrong_id.cuh"
#include "robe.cuh"

namespace embpress::cuda {
namespace {

constexpr const char* kOp = "robe_lookup";

Robe robe_of(const Tensor& coefficients, int64_t size, int64_t z, int64_t dim) {
  STD_TORCH_CHECK(dim >= 1 && dim < kMaxSorted / 2 && z >= 1 && z <= dim, "robe_lookup: z = ", z,
                  " must lie between 1 and the width ", dim);
  STD_TORCH_CHECK(size >= z, "robe_lookup: ", size, " elements are fewer than the chunk size ", z);
  const bool sign = coefficients.numel() == 6;
  const auto slots = static_cast<uint32_t>(std::min<int64_t>(size - z + 1, kPrime));
  return {longs(coefficients, sign ? 6 : 3, kOp, "coefficients"),
          sign,
          Divisor(slots),
          slots,
          static_cast<int>(z),
          static_cast<int>(dim),
          Divisor(static_cast<uint32_t>(z)),
          Divisor(static_cast<uint32_t>(divide_up(dim, z)))};
}

Tensor robe_lookup(Tensor memory, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int64_t z,
                   int64_t dim) {
  STD_TORCH_CHECK(memory.dim() == 1, "robe_lookup: memory must be 1-D, got ", memory.dim(), " dimensions");
  const Robe robe = robe_of(coefficients, memory.numel(), z, dim);
  Device device(memory);
  device.check_here({ids, row_offsets, rows, coefficients});
  const Tensor flat = in_one_piece(ids), array = in_one_piece(memory);
  const Lookups lookups = lookups_of(flat, row_offsets, rows, kOp);
  check_ids(device, lookups);
  Tensor out = device.empty({ids.size(0), ids.size(1), dim}, memory.scalar_type());
  if (lookups.count == 0) return out;
  by_type(memory.scalar_type(), kOp, [&](auto type) {
    using T = decltype(type);
    const auto run = [&](auto kernel, int64_t columns) {
      const RowGrid grid(lookups.count, columns);
      device.launch(kernel, grid.grid, grid.block, 0, pointer<T>(array), lookups, robe, writable<T>(out));
    };
    if (z % kPack<T> == 0 && dim % kPack<T> == 0)
      run(&robe_lookup_kernel<T, kPack<T>>, dim / kPack<T>);
    else
      run(&robe_lookup_kernel<T, 1>, dim);
  });
  return out;
}

Tensor robe_lookup_train(Tensor memory, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int64_t z,
                         int64_t dim, bool) {
  return robe_lookup(memory, ids, row_offsets, rows, coefficients, z, dim);
}

template <class T>
void scatter(Device& device, const T* grad, const Lookups& lookups, const Robe& robe, int64_t size, T* out) {
  using C = Compute<T>;
  constexpr bool same = sizeof(C) == sizeof(T);
  C* sum = same ? reinterpret_cast<C*>(out) : device.scratch<C>(size);
  device.zero(sum, size * sizeof(C));
  const RowGrid grid(lookups.count, robe.dim);
  if (lookups.count) device.launch(&robe_scatter_kernel<T>, grid.grid, grid.block, 0, grad, lookups, robe, sum);
  if constexpr (!same) device.launch_for(size, &narrow_kernel<T>, sum, out, size);
}

template <class T>
void gather(Device& device, const T* grad, const Lookups& lookups, const Robe& robe, int64_t size, T* out) {
  const int64_t chunks = lookups.count * robe.row_chunks.by;
  STD_TORCH_CHECK(chunks < kMaxSorted, "robe_lookup: ", chunks,
                  " chunks in one call, the gradient in a fixed order takes ", kMaxSorted - 1, " at most");
  auto *found = device.scratch<uint32_t>(chunks), *order = device.scratch<uint32_t>(chunks);
  auto *keys = device.scratch<uint32_t>(chunks), *numbers = device.scratch<uint32_t>(chunks);
  device.launch_for(chunks, &robe_keys_kernel, lookups, robe, chunks, found, order);
  if (chunks) device.sort_pairs(found, keys, order, numbers, chunks, bits_for(uint64_t{robe.starts} + 1));
  const int64_t tiles = divide_up(size, kTile), pieces = chunks / kRobePiece, width = robe_piece_width(robe.z);
  auto* ranges = device.scratch<uint32_t>(2 * tiles);
  device.launch_for(tiles, &robe_ranges_kernel, keys, chunks, robe, tiles, ranges);
  auto* sums = device.scratch<Compute<T>>(pieces * width);
  const SortedChunks<T> sorted{keys, numbers, chunks, grad, lookups, robe};
  device.launch_for(pieces * width, &robe_pieces_kernel<T>, sorted, pieces, sums);
  device.launch_for(tiles * kTile, &robe_gather_kernel<T>, sorted, ranges, sums, tiles, size, out);
}

Tensor robe_lookup_backward(Tensor grad, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int64_t size,
                            int64_t z, bool atomics) {
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == ids.size(0) && grad.size(1) == ids.size(1),
                  "robe_lookup: the gradient must be (N, T, D), got ", grad.dim(), " dimensions");
  const Robe robe = robe_of(coefficients, size, z, grad.size(2));
  Device device(grad);
  device.check_here({ids, row_offsets, rows, coefficients});
  const Tensor flat = in_one_piece(ids), flow = in_one_piece(grad);
  const Lookups lookups = lookups_of(flat, row_offsets, rows, kOp);
  Tensor out = device.empty({size}, grad.scalar_type());
  by_type(grad.scalar_type(), kOp, [&](auto type) {
    using T = decltype(type);
    (atomics ? scatter<T> : gather<T>)(device, pointer<T>(flow), lookups, robe, size, writable<T>(out));
  });
  return out;
}

}  // namespace
}  // namespace embpress::cuda

STABLE_TORCH_LIBRARY_IMPL(embpress, EMBPRESS_CUDA_KEY, m) {
  m.impl("robe_lookup", TORCH_BOX(&embpress::cuda::robe_lookup));
  m.impl("robe_lookup_train", TORCH_BOX(&embpress::cuda::robe_lookup_train));
  m.impl("robe_lookup_backward", TORCH_BOX(&embpress::cuda::robe_lookup_backward));
}
