// embpress::take_columns and join_columns on the CPU; schemas and meanings stand in kernels/ops/columns.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <type_traits>
#include <vector>

#include "../common/id_arguments.h"
#include "common/parallel.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kWorthThreads = 1 << 21;  // bytes: below, to wake a thread takes longer

int64_t bytes_of(const Tensor& t) { return t.element_size(); }

// f(first, last) over rows, on threads where they have many bytes.
template <class F>
void for_rows(int64_t rows, int64_t bytes, F f) {
  constexpr int64_t piece = 256;
  for_each_task((rows + piece - 1) / piece, rows * bytes > kWorthThreads, [&](int64_t task) {
    f(task * piece, std::min(rows, (task + 1) * piece));
  });
}

// f(copy), where copy(to, from) copies so many bytes: by whole vectors where they are a width that is common.
template <class F>
void by_bytes(int64_t bytes, F f) {
  const auto fixed = [&](auto size) {
    f([](char* to, const char* from) { std::memcpy(to, from, decltype(size)::value); });
  };
  switch (bytes) {
    case 4: return fixed(std::integral_constant<int, 4>{});
    case 8: return fixed(std::integral_constant<int, 8>{});
    case 32: return fixed(std::integral_constant<int, 32>{});
    case 64: return fixed(std::integral_constant<int, 64>{});
    case 128: return fixed(std::integral_constant<int, 128>{});
    case 256: return fixed(std::integral_constant<int, 256>{});
    default: return f([bytes](char* to, const char* from) { std::memcpy(to, from, bytes); });
  }
}

Tensor take_columns(Tensor x, Tensor columns) {
  STD_TORCH_CHECK(x.dim() == 2 || x.dim() == 3, "take_columns: ids must be (B, F) or rows (B, F, D), got ", x.dim(),
                  " dimensions");
  const int64_t* column = list_of_longs(columns, "columns");
  const int64_t count = columns.numel(), width = x.size(1);
  for (int64_t j = 0; j < count; ++j)
    STD_TORCH_CHECK(column[j] >= 0 && column[j] < width, "take_columns: there is no column ", column[j], " of ", width);
  const ScalarType type = x.scalar_type();
  STD_TORCH_CHECK(x.dim() == 3 || type == ScalarType::Int || type == ScalarType::Long,
                  "take_columns: ids must be int32 or int64");
  const Tensor whole = in_one_piece(x);
  std::vector<int64_t> sizes{x.size(0), count};
  if (x.dim() == 3) sizes.push_back(x.size(2));
  Tensor out = torch::stable::new_empty(x, sizes);
  const int64_t bytes = bytes_of(x) * (x.dim() == 3 ? x.size(2) : 1);
  const char* from = static_cast<const char*>(whole.const_data_ptr());
  char* to = static_cast<char*>(out.mutable_data_ptr());
  by_bytes(bytes, [&](auto copy) {
    for_rows(x.size(0), count * bytes, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        for (int64_t j = 0; j < count; ++j) copy(to + (i * count + j) * bytes, from + (i * width + column[j]) * bytes);
    });
  });
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
  std::vector<bool> taken(width, false);
  for (int64_t j = 0; j < width; ++j) {
    STD_TORCH_CHECK(place[j] >= 0 && place[j] < width && !taken[place[j]], "join_columns: there is no place ", place[j],
                    " of ", width, ", or it is taken twice");
    taken[place[j]] = true;
  }
  Tensor out = torch::stable::new_empty(parts[0], {rows, width, dim});
  const int64_t bytes = dim * bytes_of(parts[0]);
  char* to = static_cast<char*>(out.mutable_data_ptr());
  by_bytes(bytes, [&](auto copy) {
    for_rows(rows, width * bytes, [&](int64_t first, int64_t last) {
      const int64_t* own = place;
      for (const Tensor& part : parts) {
        const int64_t count = part.size(1);
        const char* from = static_cast<const char*>(part.const_data_ptr()) + first * count * bytes;
        for (int64_t i = first; i < last; ++i)
          for (int64_t j = 0; j < count; ++j, from += bytes) copy(to + (i * width + own[j]) * bytes, from);
        own += count;
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("take_columns", TORCH_BOX(&embpress::take_columns));
  m.impl("join_columns", TORCH_BOX(&embpress::join_columns));
}
