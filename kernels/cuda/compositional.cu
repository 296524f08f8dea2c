// embpress::compositional_lookup and its gradient on the GPU; schemas and meanings stand in
// kernels/ops/compositional.py.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "compositional.cuh"
#include "common/segment_sum.h"
#include "common/wrong_id.cuh"

namespace embpress::cuda {
namespace {

constexpr const char* kOp = "compositional_lookup";

Parts parts_of(const Tensor& weight, const Lookups& lookups, const Tensor& coefficients, const Tensor& base,
               const Tensor& sizes, int64_t combine) {
  const int64_t tables = lookups.tables.by;
  STD_TORCH_CHECK(weight.dim() == 2, "compositional_lookup: weight must be (k, width), got ", weight.dim(),
                  " dimensions");
  STD_TORCH_CHECK(base.dim() == 2 && base.size(1) > 0, "compositional_lookup: base must be (T, parts), got ",
                  base.dim(), " dimensions");
  const int64_t parts = base.size(1);
  STD_TORCH_CHECK(coefficients.dim() == 3 && (coefficients.size(1) == 1 || coefficients.size(1) == 4),
                  "compositional_lookup: coefficients must be (T, 1, parts) or (T, 4, parts)");
  STD_TORCH_CHECK(sizes.dim() == 2, "compositional_lookup: sizes must be (T, parts) or (T, 1), got ", sizes.dim(),
                  " dimensions");
  STD_TORCH_CHECK(combine >= 0 && combine <= 2, "compositional_lookup: combine must be 0, 1 or 2, got ", combine);
  const bool hashed = coefficients.size(1) == 4, one_size = sizes.numel() == tables;
  const int64_t width = weight.size(1), dim = combine == 0 ? width * parts : width;
  STD_TORCH_CHECK(dim < kMaxSorted, "compositional_lookup: rows of ", dim, " elements");
  return {lookups,
          longs(coefficients, tables * (hashed ? 4 : 1) * parts, kOp, "coefficients"),
          longs(base, tables * parts, kOp, "base"),
          longs(sizes, one_size ? tables : tables * parts, kOp, "sizes"),
          static_cast<int>(parts),
          hashed,
          one_size,
          static_cast<Combine>(combine),
          static_cast<int>(width),
          static_cast<int>(dim)};
}

Tensor compositional_lookup(Tensor weight, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients,
                            Tensor base, Tensor sizes, int64_t combine) {
  Device device(weight);
  device.check_here({ids, row_offsets, rows, coefficients, base, sizes});
  const Tensor flat = in_one_piece(ids), table = in_one_piece(weight);
  const Parts parts = parts_of(table, lookups_of(flat, row_offsets, rows, kOp), coefficients, base, sizes, combine);
  check_ids(device, parts.lookups);
  Tensor out = device.empty({ids.size(0), ids.size(1), parts.dim}, weight.scalar_type());
  if (out.numel() == 0) return out;
  by_type(weight.scalar_type(), kOp, [&](auto type) {
    using T = decltype(type);
    const auto run = [&](auto kernel, int64_t columns) {
      const RowGrid grid(parts.lookups.count, columns);
      device.launch(kernel, grid.grid, grid.block, 0, pointer<T>(table), parts, writable<T>(out));
    };
    if (in_packs<T>(table.const_data_ptr(), parts.width))
      run(&compositional_lookup_kernel<T, kPack<T>>, parts.dim / kPack<T>);
    else
      run(&compositional_lookup_kernel<T, 1>, parts.dim);
  });
  return out;
}

// The backward computes the part rows anew: nothing is left for it.
std::tuple<Tensor, Tensor> compositional_lookup_train(Tensor weight, Tensor ids, Tensor row_offsets, Tensor rows,
                                                      Tensor coefficients, Tensor base, Tensor sizes, int64_t combine,
                                                      bool) {
  Tensor nothing = torch::stable::new_empty(base, {0}, ScalarType::Long);
  return {compositional_lookup(weight, ids, row_offsets, rows, coefficients, base, sizes, combine), nothing};
}

Tensor compositional_lookup_backward(Tensor grad, Tensor weight, Tensor, Tensor ids, Tensor row_offsets, Tensor rows,
                                     Tensor coefficients, Tensor base, Tensor sizes, int64_t combine) {
  Device device(weight);
  device.check_here({grad, ids, row_offsets, rows, coefficients, base, sizes});
  const Tensor flat = in_one_piece(ids), table = in_one_piece(weight), flow = in_one_piece(grad);
  const Parts parts = parts_of(table, lookups_of(flat, row_offsets, rows, kOp), coefficients, base, sizes, combine);
  STD_TORCH_CHECK(flow.numel() == parts.lookups.count * parts.dim && flow.scalar_type() == table.scalar_type(),
                  "compositional_lookup: the gradient must be (N, T, ", parts.dim, ") of the weight's dtype, got ",
                  flow.numel(), " elements");
  const int64_t limit = table.size(0), sources = parts.lookups.count * parts.parts;
  STD_TORCH_CHECK(limit < 2 * kMaxSorted - 1 && sources < kMaxSorted, "compositional_lookup: ", limit, " rows or ",
                  sources, " parts of lookups are too many for one call");
  Tensor out = device.empty(table.sizes(), table.scalar_type());
  device.zero(out.mutable_data_ptr(), out.numel() * out.element_size());
  if (sources == 0) return out;
  auto *found = device.scratch<uint32_t>(sources), *order = device.scratch<uint32_t>(sources);
  auto *keys = device.scratch<uint32_t>(sources), *sorted = device.scratch<uint32_t>(sources);
  const Divisor part(static_cast<uint32_t>(parts.parts));
  device.launch_for(sources, &compositional_keys_kernel, parts, part, static_cast<uint32_t>(limit), found, order);
  device.sort_pairs(found, keys, order, sorted, sources, bits_for(static_cast<uint64_t>(limit) + 1));
  const Segments segments{keys, sorted, sources, static_cast<uint32_t>(limit)};
  by_type(table.scalar_type(), kOp, [&](auto type) {
    using T = decltype(type);
    const PartGradient<T> source{pointer<T>(flow), pointer<T>(table), parts, part};
    sum_segments(device, source, segments, parts.width, writable<T>(out));
  });
  return out;
}

}  // namespace
}  // namespace embpress::cuda

STABLE_TORCH_LIBRARY_IMPL(embpress, EMBPRESS_CUDA_KEY, m) {
  m.impl("compositional_lookup", TORCH_BOX(&embpress::cuda::compositional_lookup));
  m.impl("compositional_lookup_train", TORCH_BOX(&embpress::cuda::compositional_lookup_train));
  m.impl("compositional_lookup_backward", TORCH_BOX(&embpress::cuda::compositional_lookup_backward));
}
