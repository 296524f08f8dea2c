// embpress::mlet_lookup and its gradients on the GPU; schemas and meanings stand in kernels/ops/mlet.py.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "mlet.cuh"
#include "common/segment_sum.h"
#include "common/wrong_id.cuh"

namespace embpress::cuda {
namespace {

constexpr const char* kOp = "mlet_lookup";

// Below this many multiplications the lookups are taken as they come: to find the distinct rows would take longer.
#ifdef EMBPRESS_CUDA_ON_CPU
constexpr double kWorthSorting = 1 << 13;  // small, so that small tests go both ways
#else
constexpr double kWorthSorting = 1 << 27;
#endif
constexpr int64_t kBlocks = 1024;  // enough to fill a GPU

struct Shapes {
  int64_t lookups, tables, k, dim, limit;
};

Shapes shapes_of(const Tensor& table, const Tensor& projections, const Lookups& lookups) {
  STD_TORCH_CHECK(table.dim() == 2 && projections.dim() == 3 && projections.size(0) == lookups.tables.by &&
                      projections.size(1) == table.size(1) && table.size(1) > 0 && projections.size(2) > 0,
                  "mlet_lookup: the table must be (rows, k) and the projections (T, k, D)");
  STD_TORCH_CHECK(table.scalar_type() == projections.scalar_type(),
                  "mlet_lookup: table and projections must have one dtype");
  STD_TORCH_CHECK(table.size(0) < 2 * kMaxSorted - 1 && lookups.count < kMaxSorted, "mlet_lookup: ", table.size(0),
                  " rows or ", lookups.count, " lookups are too many for one call");
  STD_TORCH_CHECK(projections.size(2) < kMaxSorted, "mlet_lookup: rows of ", projections.size(2), " elements");
  return {lookups.count, lookups.tables.by, table.size(1), projections.size(2), table.size(0)};
}

// The distinct rows of a batch, and of every sorted lookup which of them is its own.
struct Distinct {
  InnerRows inner;
  const uint32_t* numbers;
  const uint32_t* lookups;
};

Distinct distinct_rows(Device& device, const Lookups& lookups, int64_t rows) {
  const int64_t n = lookups.count;
  const auto limit = static_cast<uint32_t>(rows);
  const auto room = [&](int64_t count) { return device.scratch<uint32_t>(count); };
  uint32_t *found = room(n), *order = room(n), *keys = room(n), *sorted = room(n);
  device.launch_for(n, &row_keys_kernel, lookups, limit, found, order);
  device.sort_pairs(found, keys, order, sorted, n, bits_for(static_cast<uint64_t>(rows) + 1));
  auto *first = device.scratch<int32_t>(n), *sums = device.scratch<int32_t>(n);
  device.launch_for(n, &first_of_row_kernel, keys, n, limit, first);
  device.running_sums(first, sums, n);
  uint32_t *distinct = room(n), *numbers = room(n), *ranges = room(2 * lookups.tables.by);
  device.launch_for(n, &number_rows_kernel, keys, n, limit, sums, distinct, numbers);
  device.launch_for(lookups.tables.by, &table_ranges_kernel, distinct, sums + n - 1, lookups, ranges);
  return {{lookups, distinct, ranges}, numbers, sorted};
}

template <class Problem>
void multiply(Device& device, const Problem& problem, int64_t batches, int64_t rows, int64_t columns) {
  const ProductTile tile(columns);
  const int64_t row_tiles = divide_up(rows, tile.rows), column_tiles = divide_up(columns, tile.columns);
  const int64_t blocks = batches * row_tiles * column_tiles;
  STD_TORCH_CHECK(blocks < kMaxSorted, "mlet_lookup: a product of ", blocks, " tiles is too large for one call");
  device.launch(&gathered_product_kernel<Problem>, dim3(static_cast<unsigned>(blocks)), dim3(kProductThreads),
                tile.shared() * sizeof(typename Problem::C), problem, tile, row_tiles, column_tiles);
}

template <class T>
void look_up(Device& device, const Lookups& lookups, const Shapes& s, const T* table, const T* projections, T* out) {
  const bool a = in_packs<T>(table, s.k), b = in_packs<T>(projections, s.dim);
  const int64_t samples = s.lookups / s.tables;
  const Projected<T> direct{{lookups, nullptr, nullptr}, table, projections, out, s.k, s.dim, a, b};
  if (static_cast<double>(s.lookups) * s.k * s.dim < kWorthSorting) {
    multiply(device, direct, s.tables, samples, s.dim);
    return;
  }
  const Distinct distinct = distinct_rows(device, lookups, s.limit);
  T* results = device.scratch<T>(s.lookups * s.dim);
  Projected<T> problem = direct;
  problem.inner = distinct.inner;
  problem.out = results;
  multiply(device, problem, s.tables, samples, s.dim);
  const auto spread = [&](auto kernel, int64_t columns) {
    const RowGrid grid(s.lookups, columns);
    device.launch(kernel, grid.grid, grid.block, 0, results, distinct.numbers, distinct.lookups, s.lookups, s.dim, out);
  };
  if (s.dim % kPack<T> == 0)
    spread(&spread_kernel<T, kPack<T>>, s.dim / kPack<T>);
  else
    spread(&spread_kernel<T, 1>, s.dim);
}

Tensor mlet_lookup(Tensor table, Tensor projections, Tensor ids, Tensor row_offsets, Tensor rows) {
  Device device(table);
  device.check_here({projections, ids, row_offsets, rows});
  const Tensor flat = in_one_piece(ids), inner = in_one_piece(table), factors = in_one_piece(projections);
  const Lookups lookups = lookups_of(flat, row_offsets, rows, kOp);
  const Shapes s = shapes_of(inner, factors, lookups);
  check_ids(device, lookups);
  Tensor out = device.empty({ids.size(0), ids.size(1), s.dim}, table.scalar_type());
  if (out.numel() == 0) return out;
  by_type(table.scalar_type(), kOp, [&](auto type) {
    using T = decltype(type);
    look_up(device, lookups, s, pointer<T>(inner), pointer<T>(factors), writable<T>(out));
  });
  return out;
}

// The backward gathers the inner rows anew, each distinct one once: nothing is left for it.
std::tuple<Tensor, Tensor> mlet_lookup_train(Tensor table, Tensor projections, Tensor ids, Tensor row_offsets,
                                             Tensor rows, bool) {
  Tensor nothing = torch::stable::new_empty(table, {0}, table.scalar_type());
  return {mlet_lookup(table, projections, ids, row_offsets, rows), nothing};
}

template <class T>
void differentiate(Device& device, const Lookups& lookups, const Shapes& s, const T* grad, const T* table,
                   const T* projections, T* table_grad, T* projection_grad) {
  using C = Compute<T>;
  const Distinct distinct = distinct_rows(device, lookups, s.limit);
  C* sums = device.scratch<C>(s.lookups * s.dim);
  const RowGradient<T> source{grad, s.dim};
  sum_segments(device, source, Segments{distinct.numbers, distinct.lookups, s.lookups, kNone}, s.dim, sums);

  const int64_t samples = s.lookups / s.tables;
  const bool sums_packs = s.dim % kPack<C> == 0, table_packs = in_packs<T>(table, s.k);
  const TableGradient<T> by_row{
      distinct.inner, sums, projections, table_grad, s.k, s.dim, sums_packs, in_packs<T>(projections, s.dim)};
  multiply(device, by_row, s.tables, samples, s.k);

  const ProductTile tile(s.dim);
  const int64_t tiles = s.tables * divide_up(s.k, tile.rows) * divide_up(s.dim, tile.columns);
  const int64_t parts = std::clamp<int64_t>(divide_up(kBlocks, tiles), 1, divide_up(samples, 4 * kDepth));
  C* added = device.scratch<C>(s.tables * parts * s.k * s.dim);
  const ProjectionGradient<T> by_part{distinct.inner, table, sums, added, s.k, s.dim, parts, table_packs, sums_packs};
  multiply(device, by_part, s.tables * parts, s.k, s.dim);
  device.launch_for(s.tables * s.k * s.dim, &add_parts_kernel<T>, added, s.tables, parts, s.k * s.dim, projection_grad);
}

std::tuple<Tensor, Tensor> mlet_lookup_backward(Tensor grad, Tensor, Tensor table, Tensor projections, Tensor ids,
                                                Tensor row_offsets, Tensor rows) {
  Device device(table);
  device.check_here({grad, projections, ids, row_offsets, rows});
  const Tensor flat = in_one_piece(ids), inner = in_one_piece(table), factors = in_one_piece(projections);
  const Tensor flow = in_one_piece(grad);
  const Lookups lookups = lookups_of(flat, row_offsets, rows, kOp);
  const Shapes s = shapes_of(inner, factors, lookups);
  STD_TORCH_CHECK(flow.numel() == s.lookups * s.dim && flow.scalar_type() == inner.scalar_type(),
                  "mlet_lookup: the gradient must be (N, T, ", s.dim, ") of the table's dtype, got ", flow.numel(),
                  " elements");
  Tensor table_grad = device.empty(inner.sizes(), inner.scalar_type());
  Tensor projection_grad = device.empty(factors.sizes(), factors.scalar_type());
  device.zero(table_grad.mutable_data_ptr(), table_grad.numel() * table_grad.element_size());
  if (s.lookups == 0) {
    device.zero(projection_grad.mutable_data_ptr(), projection_grad.numel() * projection_grad.element_size());
    return {table_grad, projection_grad};
  }
  by_type(inner.scalar_type(), kOp, [&](auto type) {
    using T = decltype(type);
    differentiate(device, lookups, s, pointer<T>(flow), pointer<T>(inner), pointer<T>(factors), writable<T>(table_grad),
                  writable<T>(projection_grad));
  });
  return {table_grad, projection_grad};
}

}  // namespace
}  // namespace embpress::cuda

STABLE_TORCH_LIBRARY_IMPL(embpress, EMBPRESS_CUDA_KEY, m) {
  m.impl("mlet_lookup", TORCH_BOX(&embpress::cuda::mlet_lookup));
  m.impl("mlet_lookup_train", TORCH_BOX(&embpress::cuda::mlet_lookup_train));
  m.impl("mlet_lookup_backward", TORCH_BOX(&embpress::cuda::mlet_lookup_backward));
}
