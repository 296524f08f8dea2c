// One call of the tensor-train op on the GPU: its arguments as the kernels take them, and the order of the launches.
#pragma once

#include <cstring>

#include "../../common/errors.h"
#include "../../common/tt_arguments.h"
#include "../common/device.h"
#include "backward.cuh"
#include "check.cuh"
#include "plan.cuh"

namespace embpress::cuda {

// Shared memory for a block of the grouped kernels, and with which tile sizes.
struct Tiling {
  bool small;
  size_t bytes;
};

template <class T>
class TTCall {
 public:
  using C = Compute<T>;

  TTCall(const Arguments& a, int64_t math) : arguments(a), device(a.cores.at(0)), tables(shapes_of(a)) {
    const LookupShape shape = lookups_of(a);
    STD_TORCH_CHECK(math >= 0 && math <= 2, "tt_embedding_bag: math must be 0, 1 or 2, got ", math);
    plan.math = static_cast<Math>(math);
    dim = static_cast<int>(tables[0].dim);
    lookups.tables = shape.tables;
    lookups.bags = shape.bags;
    lookups.per_bag = shape.per_bag;
    lookups.total = shape.total;
    lookups.ids = {keep(a.indices).const_data_ptr(), shape.wide};
    lookups.has_offsets = a.offsets.has_value();
    if (a.offsets) {
      lookups.offsets = {keep(*a.offsets).const_data_ptr(), shape.wide_offsets};
      lookups.bounds_given = a.offsets->numel();
    }
    lookups.weights = a.weights ? keep(*a.weights).const_data_ptr() : nullptr;
    lookups.mean = a.mean;
    bounds = shape.bounds;
    number_tables();
  }

  // Lays the tables down on the device; the gradients' addresses must be known by then.
  void write_tables() {
    TTTable* to = device.scratch<TTTable>(descriptors.size());
    on_device = to;
    for (size_t t = 0; t < descriptors.size(); t += kTablesAtOnce) {
      TTTableBlock block;
      const size_t count = std::min<size_t>(kTablesAtOnce, descriptors.size() - t);
      std::copy_n(descriptors.begin() + t, count, block.table);
      device.launch(tt_write_tables, dim3(1), dim3(32), 0, block, to + t, static_cast<int>(count));
    }
  }

  // What EMBPRESS_CHECK=1 asks for; waits for the device.
  void check() {
    if (!Device::checks()) return;
    TTWrong* wrong = device.scratch<TTWrong>(1);
    device.zero(wrong, sizeof(TTWrong));
    if (lookups.has_offsets) {
      device.launch_for(bounds, tt_check_offsets, lookups, bounds, wrong);
      const TTWrong found = device.read(wrong);
      check_offsets(found.first_offset, found.last_offset, lookups.total, found.decreasing > 0);
    }
    device.fill(&wrong->lookup, 0xFF, sizeof(wrong->lookup));
    device.launch_for(lookups.total, tt_check_ids, on_device, lookups, wrong);
    device.launch(tt_name_wrong, dim3(1), dim3(1), 0, on_device, lookups, wrong);
    const TTWrong found = device.read(wrong);
    if (found.lookup != ~0ull) refuse_id(found.id, found.table, found.num_embeddings);
  }

  int64_t plan_ints() const { return TTPlan::ints(lookups.total, groups, cached); }

  // Where the parts of a plan lie in its memory.
  void lay_plan(int32_t* ints) {
    const int64_t n = lookups.total;
    plan.total = n;
    plan.groups = static_cast<int32_t>(groups);
    plan.cached = static_cast<int32_t>(cached);
    plan.rest_bits = rest_bits;
    plan.row_key = reinterpret_cast<uint64_t*>(ints);
    plan.sorted = ints + 2 * n;
    plan.bag = ints + 3 * n;
    plan.row_of = ints + 4 * n;
    plan.group_start = ints + 5 * n;
    plan.segment_start = plan.group_start + groups + cached + 1;
  }

  void make_plan() {
    const int64_t n = lookups.total;
    device.zero(plan.row_key, plan_ints() * 4);
    if (n == 0) return;
    uint64_t *keys = device.scratch<uint64_t>(n), *sorted = device.scratch<uint64_t>(n);
    int32_t *order = device.scratch<int32_t>(n), *running = device.scratch<int32_t>(n);
    device.launch_for(n, tt_plan_keys, on_device, lookups, plan, keys, order);
    device.sort_pairs(keys, sorted, order, plan.sorted, n, rest_bits + bits_for(groups + cached + 1));
    device.launch_for(n, tt_plan_begins, plan, sorted, order);
    device.running_sums(order, running, n);
    device.launch_for(n, tt_plan_rows, plan, sorted, running);
    device.launch_for(groups + cached + 1, tt_plan_groups, plan, running);
    make_segments(plan.group_start, groups, kSegment, plan.segment_start);
  }

  // segment_start (groups + 1), of which the first is already 0
  void make_segments(const int32_t* start, int64_t count, int max_elements, int32_t* segment_start) {
    int32_t* counts = device.scratch<int32_t>(count);
    device.launch_for(count, tt_count_segments, start, count, max_elements, counts);
    device.running_sums(counts, segment_start + 1, count);
  }

  // Blocks that the segments of `count` groups of `elements` in all take at most.
  static int64_t max_segments(int64_t count, int64_t elements, int max_elements) {
    return std::min(count, elements) + elements / max_elements;
  }
  dim3 segments() const {
    return dim3(static_cast<unsigned>(std::max<int64_t>(1, max_segments(groups, lookups.total, kSegment))));
  }

  // (rows, before_stride): the product of the first two of four cores, else null
  C* make_before() {
    if (arguments.num_cores < 4 || lookups.total == 0) return nullptr;
    C* before = device.scratch<C>(lookups.total * before_stride());
    const int64_t threads = device.multiprocessors() * 8 * Device::kThreads;
    device.launch_for(std::min(threads, lookups.total * before_stride()), tt_before_forward<T>, on_device,
                      lookups.tables, plan, before_stride(), before);
    return before;
  }

  // (rows, dim): the values of the plan's rows
  C* make_values(const C* before) {
    C* values = device.scratch<C>(lookups.total * dim);
    if (lookups.total == 0) return values;
    const Tiling tiling = forward_tiling();
    const auto kernel = tiling.small ? tt_group_forward<T, 16, 16> : tt_group_forward<T, 64, 64>;
    device.launch(kernel, segments(), dim3(kGroupThreads), tiling.bytes, on_device, lookups.tables, plan, dim, before,
                  before_stride(), values);
    return values;
  }

  // One over the lookups of each bag, for means.
  C* make_scale() {
    if (!lookups.mean) return nullptr;
    C* scale = device.scratch<C>(lookups.tables * lookups.bags);
    device.launch_for(lookups.tables * lookups.bags, tt_bag_scale<C>, lookups, plan, scale);
    return scale;
  }

  template <class Elements>
  int64_t max_of(Elements elements) const {
    int64_t largest = 0;
    for (const TTTable& table : descriptors) largest = std::max<int64_t>(largest, elements(table));
    return largest;
  }

  int64_t before_stride() const {
    return arguments.num_cores < 4 ? 0 : max_of([](const TTTable& t) { return t.rows(2) * t.rank[2]; });
  }

  Tiling forward_tiling() const {
    return tiling([&](auto tile, const TTTable&) { return tile.forward_elements(); });
  }
  Tiling backward_tiling() const {
    return tiling([&](auto tile, const TTTable&) { return tile.backward_elements(); });
  }

  // Tiles of 64, or of 16 where these take more shared memory than there is.
  template <class Elements>
  Tiling tiling(Elements elements, int core = -1) const {
    const auto stage = [&](const TTTable& t) { return TTStage::of(t, core < 0 ? t.grouped() : core); };
    const int64_t large =
        max_of([&](const TTTable& t) { return elements(TTTile<64, 64>::of(stage(t), dim, plan.math), t); });
    const int64_t small =
        max_of([&](const TTTable& t) { return elements(TTTile<16, 16>::of(stage(t), dim, plan.math), t); });
    const auto bytes = [](int64_t elements) { return elements * sizeof(C) + TTDigits::kBytes; };
    const size_t limit = device.shared_limit();
    STD_TORCH_CHECK(bytes(small) <= limit, "tt_embedding_bag: these ranks take ", bytes(small),
                    " bytes of shared memory, the GPU has ", limit);
    return bytes(large) <= limit ? Tiling{false, bytes(large)} : Tiling{true, bytes(small)};
  }

  Tensor keep(const Tensor& t) {
    device.check_here({t});
    kept.push_back(in_one_piece(t));
    return kept.back();
  }

#ifdef EMBPRESS_CUDA_ON_CPU
  static constexpr int kGroupThreads = 32;
#else
  static constexpr int kGroupThreads = 128;
#endif

  const Arguments& arguments;
  Device device;
  std::vector<TableShape> tables;
  std::vector<TTTable> descriptors;
  const TTTable* on_device = nullptr;
  TTLookups lookups{};
  TTPlan plan{};
  int dim;
  int64_t bounds, groups = 0, cached = 0, ends = 0, digits = 0;
  int rest_bits = 1;

 private:
  // Fills in what the kernels know a table by.
  void number_tables() {
    const int d = static_cast<int>(arguments.num_cores);
    double rest = 1;
    for (size_t t = 0; t < tables.size(); ++t) {
      const TableShape& shape = tables[t];
      TTTable table{};
      table.num_cores = d;
      table.num_embeddings = shape.num_embeddings;
      table.padding_idx = shape.padding_idx;
      double others = 1;
      for (int k = 0; k < d; ++k) {
        const Tensor& core = arguments.cores[t * d + k];
        STD_TORCH_CHECK(core.numel() < INT32_MAX, "tt_embedding_bag: core ", k, " of table ", t,
                        " has more than 2^31 elements");
        table.p[k] = static_cast<int32_t>(shape.p[k]);
        table.q[k] = static_cast<int32_t>(shape.q[k]);
        table.core[k] = keep(core).const_data_ptr();
        others *= static_cast<double>(shape.p[k]);
      }
      for (int k = 0; k <= d; ++k) table.rank[k] = static_cast<int32_t>(shape.rank[k]);
      rest = std::max(rest, others / table.p[table.grouped()]);
      table.first_group = static_cast<int32_t>(groups);
      groups += table.p[table.grouped()];
      table.first_cached = static_cast<int32_t>(cached);
      if (has_cache(arguments, static_cast<int64_t>(t), dim)) {
        const Tensor index = keep(arguments.caches[3 * t]), ids = keep(arguments.caches[3 * t + 1]);
        table.cache = {index.const_data_ptr<int32_t>(), ids.const_data_ptr<int64_t>(),
                       static_cast<uint64_t>(index.numel()) - 1, ids.numel()};
        table.cache_values = keep(arguments.caches[3 * t + 2]).const_data_ptr();
        table.cached = static_cast<int32_t>(ids.numel());
        cached += ids.numel();
      }
      descriptors.push_back(table);
    }
    STD_TORCH_CHECK(rest < 1e15 && groups + cached < INT32_MAX, "tt_embedding_bag: tables that are too large");
    rest_bits = bits_for(static_cast<uint64_t>(rest));
    STD_TORCH_CHECK(rest_bits + bits_for(groups + cached + 1) <= 64, "tt_embedding_bag: tables that are too large");
    for (TTTable& table : descriptors)
      for (int list = 0; list < std::min(2, d - 1); ++list) {
        table.first_end[list] = static_cast<int32_t>(ends);
        ends += table.p[list ? d - 1 : 0];
      }
    digits = ends;
    for (TTTable& table : descriptors) {
      table.first_end[2] = static_cast<int32_t>(digits);
      if (d == 4) digits += table.p[1];
    }
  }

  std::vector<Tensor> kept;
};

}  // namespace embpress::cuda
