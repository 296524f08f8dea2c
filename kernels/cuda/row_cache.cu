// embpress::cache_index, cache_find and count_ids on the GPU; schemas and meanings stand in kernels/ops/row_cache.py.
#include <torch/csrc/stable/library.h>

#include "../common/id_arguments.h"
#include "row_cache.cuh"
#include "common/device.h"

namespace embpress::cuda {
namespace {

Tensor cache_index(Tensor ids, int64_t slots) {
  const int64_t* id = list_of_longs(ids, "ids");
  const int64_t rows = ids.numel();
  STD_TORCH_CHECK(rows < slots, "cache_index: ", rows, " rows need more than ", slots, " slots");
  const uint64_t mask = mask_of(slots);
  Device device(ids);
  Tensor index = device.empty({slots}, ScalarType::Int);
  uint32_t* to = reinterpret_cast<uint32_t*>(index.mutable_data_ptr<int32_t>());
  device.fill(to, 0xFF, slots * 4);
  device.launch_for(rows, cache_index_kernel, id, rows, to, mask);
  return index;
}

Tensor cache_find(Tensor index, Tensor ids, Tensor wanted) {
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Int && index.is_contiguous(), "index must be contiguous int32");
  Device device(wanted);
  device.check_here({index, ids});
  const CacheIndex cache{index.const_data_ptr<int32_t>(), list_of_longs(ids, "ids"), mask_of(index.numel()),
                         ids.numel()};
  const Tensor flat = in_one_piece(wanted);
  Tensor rows = device.empty(flat.sizes(), ScalarType::Int);
  device.launch_for(flat.numel(), cache_find_kernel, cache, longs(flat, "wanted"), flat.numel(),
                    rows.mutable_data_ptr<int32_t>());
  return rows;
}

void count_ids(Tensor keys, Tensor counts, Tensor used, Tensor ids) {
  const uint64_t mask = check_counts(keys, counts, used);
  Device device(ids);
  device.check_here({keys, counts, used});
  const Tensor flat = in_one_piece(ids);
  const bool wide = flat.scalar_type() == ScalarType::Long;
  if (!wide && flat.scalar_type() != ScalarType::Int) longs(flat, "ids");
  const auto pointer = [](Tensor& t) { return reinterpret_cast<unsigned long long*>(t.mutable_data_ptr<int64_t>()); };
  device.launch_for(flat.numel(), count_ids_kernel, pointer(keys), pointer(counts), pointer(used),
                    Integers{flat.const_data_ptr(), wide}, flat.numel(), mask,
                    static_cast<uint64_t>(std::max<int64_t>(0, max_taken(keys.numel()))));
}

}  // namespace
}  // namespace embpress::cuda

STABLE_TORCH_LIBRARY_IMPL(embpress, EMBPRESS_CUDA_KEY, m) {
  m.impl("cache_index", TORCH_BOX(&embpress::cuda::cache_index));
  m.impl("cache_find", TORCH_BOX(&embpress::cuda::cache_find));
  m.impl("count_ids", TORCH_BOX(&embpress::cuda::count_ids));
}
