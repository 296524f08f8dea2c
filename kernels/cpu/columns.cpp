// embpress::take_columns and join_columns on the CPU; schemas and meanings stand in kernels/ops/columns.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <vector>

#include "../common/id_arguments.h"
#include "common/parallel.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kWorthThreads = 1 << 18;  // bytes

int64_t bytes_of(const Tensor& t) { return t.element_size(); }

// f(first, last) over rows, on threads where they have many bytes.
template <class F>
void for_rows(int64_t rows, int64_t bytes, F f) {
  constexpr int64_t piece = 256;
  for_each_task((rows + piece - 1) / piece, rows * bytes > kWorthThreads, [&](int64_t task) {
    f(task * piece, std::min(rows, (task + 1) * piece));
  });
}

template <class U>
void take(const Tensor& x, const int64_t* columns, int64_t count, Tensor& out) {
  const int64_t width = x.size(1);
  const U* from = static_cast<const U*>(x.const_data_ptr());
  U* to = static_cast<U*>(out.mutable_data_ptr());
  for_rows(x.size(0), count * sizeof(U), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      for (int64_t j = 0; j < count; ++j) to[i * count + j] = from[i * width + columns[j]];
  });
}

Tensor take_columns(Tensor ids, Tensor columns) {
  STD_TORCH_CHECK(ids.dim() == 2, "take_columns: ids must be (B, F), got ", ids.dim(), " dimensions");
  const int64_t* column = list_of_longs(columns, "columns");
  const int64_t count = columns.numel();
  for (int64_t j = 0; j < count; ++j)
    STD_TORCH_CHECK(column[j] >= 0 && column[j] < ids.size(1), "take_columns: there is no column ", column[j], " of ",
                    ids.size(1));
  const ScalarType type = ids.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Int || type == ScalarType::Long, "take_columns: ids must be int32 or int64");
  const Tensor whole = in_one_piece(ids);
  Tensor out = torch::stable::new_empty(ids, {ids.size(0), count});
  if (type == ScalarType::Int)
    take<int32_t>(whole, column, count, out);
  else
    take<int64_t>(whole, column, count, out);
  return out;
}

Tensor join_columns(std::vector<Tensor> parts, Tensor places) {
  STD_TORCH_CHECK(!parts.empty() && parts[0].dim() == 3, "join_columns: parts must be (B, T, D)");
  const int64_t* place = list_of_longs(places, "places");
  const int64_t rows = parts[0].size(0), dim = parts[0].size(2), width = places.numel();
  int64_t held = 0;
  for (Tensor& part : parts) {
    STD_TORCH_CHECK(part.dim() == 3 && part.size(0) == rows && part.size(2) == dim &&
                        part.scalar_type() == parts[0].scalar_type(),
                    "join_columns: parts must be (B, T, D) of one type, and differ in T alone");
    held += part.size(1);
    part = in_one_piece(part);
  }
  STD_TORCH_CHECK(held == width, "join_columns: ", width, " places for ", held, " columns");
  for (int64_t j = 0; j < width; ++j)
    STD_TORCH_CHECK(place[j] >= 0 && place[j] < width, "join_columns: there is no place ", place[j], " of ", width);
  Tensor out = torch::stable::new_empty(parts[0], {rows, width, dim});
  const int64_t bytes = dim * bytes_of(parts[0]);
  char* to = static_cast<char*>(out.mutable_data_ptr());
  for_rows(rows, width * bytes, [&](int64_t first, int64_t last) {
    const int64_t* own = place;
    for (const Tensor& part : parts) {
      const int64_t count = part.size(1);
      const char* from = static_cast<const char*>(part.const_data_ptr()) + first * count * bytes;
      for (int64_t i = first; i < last; ++i)
        for (int64_t j = 0; j < count; ++j, from += bytes)
          std::memcpy(to + (i * width + own[j]) * bytes, from, bytes);
      own += count;
    }
  });
  return out;
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("take_columns", TORCH_BOX(&embpress::take_columns));
  m.impl("join_columns", TORCH_BOX(&embpress::join_columns));
}
