// embpress::tt_embedding_bag and its backward on the GPU; schemas and meanings stand in
// kernels/ops/tt_embedding_bag.py.
#include <torch/csrc/stable/library.h>

#include <cstdlib>
#include <string>
#include <tuple>

#include "common/segment_sum.h"
#include "tt/bag.cuh"
#include "tt/call.h"
#include "tt/ends.cuh"

namespace embpress::cuda {
namespace {

// Up to so many lookups each is multiplied out by itself: less work to begin with than sorting them.
constexpr int64_t kFused = 4096;

// EMBPRESS_TT_ROUTE=fused|grouped takes one of the two routes whatever the batch.
bool fused(int64_t lookups) {
  const char* route = std::getenv("EMBPRESS_TT_ROUTE");
  return route && *route ? std::string(route) == "fused" : lookups <= kFused;
}

// kept: becomes the plan of the grouped route, for the backward; null where none is wanted.
template <class T>
Tensor forward(const Arguments& a, int64_t math, std::optional<Tensor>* kept) {
  TTCall<T> call(a, math);
  using C = typename TTCall<T>::C;
  Device& device = call.device;
  const int64_t bags = call.lookups.bags, tables = call.lookups.tables, dim = call.dim;
  Tensor out = device.empty({bags, tables, dim}, a.cores[0].scalar_type());
  call.write_tables();
  call.check();
  T* to = reinterpret_cast<T*>(out.mutable_data_ptr());
  const int64_t widest = call.max_of([](const TTTable& t) { return tt_bag_widest(t); });
  const size_t bytes = (2 * widest + dim) * sizeof(C);
  if (bags == 0) {
    if (kept) *kept = device.empty({0}, ScalarType::Int);
    return out;
  }
  if (fused(call.lookups.total) && static_cast<int64_t>(bytes) <= device.shared_limit()) {
    device.launch(tt_bag_forward<T>, dim3(static_cast<unsigned>(bags * tables)), dim3(TTCall<T>::kGroupThreads), bytes,
                  call.on_device, call.lookups, call.dim, static_cast<int>(widest), to);
    if (kept) *kept = device.empty({0}, ScalarType::Int);
    return out;
  }
  if (kept) {
    *kept = device.empty({call.plan_ints()}, ScalarType::Int);
    call.lay_plan((*kept)->template mutable_data_ptr<int32_t>());
  } else {
    call.lay_plan(device.template scratch<int32_t>(call.plan_ints()));
  }
  call.make_plan();
  const C* values = call.make_values(call.make_before());
  device.launch_for(bags * tables * dim, tt_pool<T>, call.on_device, call.lookups, call.plan, call.dim, values, to);
  return out;
}

template <class T>
struct Gradients {
  std::vector<Tensor> cores, caches;
  Tensor weights;
};

template <class T>
Gradients<T> backward(const Arguments& a, int64_t math, const Tensor& grad_out, const Tensor& kept) {
  TTCall<T> call(a, math);
  using C = typename TTCall<T>::C;
  Device& device = call.device;
  const int64_t n = call.lookups.total, tables = call.lookups.tables, dim = call.dim, d = a.num_cores;
  const ScalarType type = a.cores[0].scalar_type();
  STD_TORCH_CHECK(grad_out.numel() == call.lookups.bags * tables * dim && grad_out.scalar_type() == type &&
                      (kept.numel() == 0 || kept.numel() == call.plan_ints()),
                  "tt_embedding_bag_backward: the gradient or the plan is not that of these lookups");
  const T* grad = reinterpret_cast<const T*>(call.keep(grad_out).const_data_ptr());
  Gradients<T> made{{}, {}, device.empty({0}, type)};
  for (int64_t i = 0; i < tables * d; ++i) {
    made.cores.push_back(device.empty(a.cores[i].sizes(), type));
    call.descriptors[i / d].grad[i % d] = made.cores[i].mutable_data_ptr();
  }
  for (size_t t = 0; t < a.caches.size() / 3; ++t) {
    made.caches.push_back(device.empty(a.caches[3 * t + 2].sizes(), type));
    call.descriptors[t].cache_grad = made.caches[t].mutable_data_ptr();
  }
  call.write_tables();
  if (kept.numel() && n) {
    call.lay_plan(const_cast<int32_t*>(kept.const_data_ptr<int32_t>()));  // it is only read
  } else {
    call.lay_plan(device.template scratch<int32_t>(call.plan_ints()));
    call.make_plan();
  }
  const TTGradient<T> gradient{grad, call.make_scale()};
  const C* before = call.make_before();
  if (a.weights) {
    made.weights = device.empty(a.weights->sizes(), type);
    const C* values = call.make_values(before);
    device.launch_for(n * 32, tt_weight_backward<T>, call.on_device, call.lookups, call.plan, call.dim, grad,
                      gradient.scale, values, reinterpret_cast<T*>(made.weights.mutable_data_ptr()));
  }
  // one sum for every row, so that one which most lookups share holds nobody up
  uint32_t* row_numbers = device.template scratch<uint32_t>(n);
  C* d_rows = device.template scratch<C>(n * dim);
  device.launch_for(n, tt_rows_of_sorted, call.plan, row_numbers);
  const Segments by_row{row_numbers, reinterpret_cast<const uint32_t*>(call.plan.sorted), n, ~uint32_t{0}};
  sum_segments<C>(device, TTGradientSource<T>{gradient, call.lookups, call.plan, call.dim}, by_row, dim, d_rows);
  if (call.cached)
    device.launch(tt_cache_backward<T>, dim3(static_cast<unsigned>(call.cached)), dim3(TTCall<T>::kGroupThreads), 0,
                  call.on_device, tables, call.plan, call.dim, d_rows);

  // what each row gives to the cores beside the grouped one
  const auto left_size = [](const TTTable& t) { return t.rows(t.grouped()) * t.rank[t.grouped()]; };
  const auto last_size = [](const TTTable& t) { return t.has_last() ? t.slice(t.num_cores - 1) : 0; };
  const auto slice_size = [](const TTTable& t) { return t.slice(t.grouped()); };
  const int64_t part_stride = call.max_of(slice_size);
  TTRowGradients<C> rows{nullptr, call.max_of(left_size), nullptr, call.max_of(last_size)};
  rows.left = device.template scratch<C>(n * rows.left_stride);
  rows.last = device.template scratch<C>(n * rows.last_stride);
  const dim3 segments = call.segments();
  C* parts = device.template scratch<C>(segments.x * part_stride);
  if (n) {
    const Tiling tiling = call.backward_tiling();
    const auto kernel = tiling.small ? tt_group_backward<T, 16, 16> : tt_group_backward<T, 64, 64>;
    device.launch(kernel, segments, dim3(TTCall<T>::kGroupThreads), tiling.bytes, call.on_device, tables, call.plan,
                  call.dim, d_rows, before, call.before_stride(), rows, parts, part_stride);
  }
  device.launch(tt_sum_slices<T>, dim3(static_cast<unsigned>(call.groups)), dim3(Device::kThreads), 0, call.on_device,
                tables, call.plan, parts, part_stride);

  TTEnds ends{};
  ends.lists = static_cast<int32_t>(d - 1);
  ends.ends = static_cast<int32_t>(call.ends);
  ends.digits = static_cast<int32_t>(call.digits);
  const int64_t entries = ends.lists * n;
  ends.rows = device.template scratch<int32_t>(entries);
  ends.start = device.template scratch<int32_t>(call.digits + 1);
  ends.segment_start = device.template scratch<int32_t>(call.ends + 1);
  device.zero(ends.segment_start, (call.ends + 1) * 4);
  uint32_t *keys = device.template scratch<uint32_t>(entries), *sorted = device.template scratch<uint32_t>(entries);
  int32_t* unsorted = device.template scratch<int32_t>(entries);
  device.launch_for(entries, tt_end_keys, call.on_device, tables, call.plan, ends, keys, unsorted);
  device.sort_pairs(keys, sorted, unsorted, ends.rows, entries, bits_for(call.digits + 1));
  device.launch_for(call.digits + 1, tt_end_starts, call.plan, ends, sorted);
  if (d == 4) {
    const int64_t first_stride = call.max_of([](const TTTable& t) { return t.slice(0); });
    C* d_first = device.template scratch<C>(n * first_stride);
    const Tiling tiling = call.tiling([](auto tile, const TTTable&) { return tile.backward_elements(); }, 1);
    const auto kernel = tiling.small ? tt_before_backward<T, 16, 16> : tt_before_backward<T, 64, 64>;
    device.launch(kernel, dim3(static_cast<unsigned>(call.digits - call.ends)), dim3(TTCall<T>::kGroupThreads),
                  tiling.bytes, call.on_device, tables, call.plan, ends, rows.left, rows.left_stride, d_first,
                  first_stride);
    rows.left = d_first;
    rows.left_stride = first_stride;
  }
  call.make_segments(ends.start, call.ends, kEndRows, ends.segment_start);
  const int64_t blocks = std::max<int64_t>(1, TTCall<T>::max_segments(call.ends, entries, kEndRows));
  const int64_t end_stride = std::max(call.max_of([](const TTTable& t) { return t.slice(0); }), rows.last_stride);
  C* end_parts = device.template scratch<C>(blocks * end_stride);
  device.launch(tt_end_sums<T>, dim3(static_cast<unsigned>(blocks)), dim3(Device::kThreads), 0, call.on_device, tables,
                ends, rows, end_parts, end_stride);
  device.launch(tt_sum_ends<T>, dim3(static_cast<unsigned>(call.ends)), dim3(Device::kThreads), 0, call.on_device,
                tables, ends, end_parts, end_stride);
  return made;
}

// --- ops -------------------------------------------------------------------------------------------------------------

template <class F>
auto by_dtype(const std::vector<Tensor>& cores, F f) {
  STD_TORCH_CHECK(!cores.empty(), "tt_embedding_bag: no tables");
  const ScalarType type = cores[0].scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16,
                  "tt_embedding_bag: the cores must be float32, float64 or bfloat16");
  if (type == ScalarType::Double) return f(double{});
  return type == ScalarType::Float ? f(float{}) : f(BFloat16{});
}

using Ints = std::vector<int64_t>;

Tensor tt_embedding_bag(std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices,
                        std::optional<Tensor> offsets, std::optional<Tensor> weights, Ints num_embeddings,
                        Ints padding_idx, int64_t num_cores, bool mean, bool include_last_offset, int64_t math) {
  const Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
                    std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  return by_dtype(a.cores, [&](auto zero) { return forward<decltype(zero)>(a, math, nullptr); });
}

// `store` makes no difference: partial products stay on the chip, where the backward makes them again.
std::tuple<Tensor, Tensor, Tensor> tt_embedding_bag_train(std::vector<Tensor> cores, std::vector<Tensor> caches,
                                                          Tensor indices, std::optional<Tensor> offsets,
                                                          std::optional<Tensor> weights, Ints num_embeddings,
                                                          Ints padding_idx, int64_t num_cores, bool mean,
                                                          bool include_last_offset, bool, int64_t math) {
  const Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
                    std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  return by_dtype(a.cores, [&](auto zero) {
    std::optional<Tensor> plan;
    Tensor out = forward<decltype(zero)>(a, math, &plan);
    const ScalarType sums = out.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    return std::make_tuple(out, *plan, torch::stable::new_empty(out, {0}, sums));
  });
}

std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>> tt_embedding_bag_backward(
    Tensor grad, std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices, std::optional<Tensor> offsets,
    std::optional<Tensor> weights, Tensor plan, Tensor, Ints num_embeddings, Ints padding_idx, int64_t num_cores,
    bool mean, bool include_last_offset, int64_t math) {
  const Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
                    std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  return by_dtype(a.cores, [&](auto zero) {
    auto made = backward<decltype(zero)>(a, math, grad, plan);
    return std::make_tuple(std::move(made.cores), made.weights, std::move(made.caches));
  });
}

}  // namespace
}  // namespace embpress::cuda

STABLE_TORCH_LIBRARY_IMPL(embpress, EMBPRESS_CUDA_KEY, m) {
  m.impl("tt_embedding_bag", TORCH_BOX(&embpress::cuda::tt_embedding_bag));
  m.impl("tt_embedding_bag_train", TORCH_BOX(&embpress::cuda::tt_embedding_bag_train));
  m.impl("tt_embedding_bag_backward", TORCH_BOX(&embpress::cuda::tt_embedding_bag_backward));
}
