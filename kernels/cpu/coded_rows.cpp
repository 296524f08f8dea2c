// embpress::coded_rows on the CPU; schema and meaning stand in kernels/ops/coded_rows.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <optional>
#include <vector>

#include "../common/id_arguments.h"
#include "common/parallel.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

enum class Kind : int64_t { column = 0, row = 1, block = 2 };

constexpr int64_t kElements = 64;           // of a block
constexpr int64_t kWorthThreads = 1 << 15;  // elements of rows

float widened(uint16_t bfloat16) { return std::bit_cast<float>(static_cast<uint32_t>(bfloat16) << 16); }

struct Coded {
  const uint8_t* codes;
  const uint16_t* ranges;
  const float* columns;  // ranges of columns, widened
  const int64_t *index, *segments, *code_starts, *range_starts;
  int64_t bytes, held, row_bytes, count, each, width;
  int bits;
  Kind kind;

  // Lookup i's rows; false where one lies outside.
  bool decode(const Copies& kernels, int64_t i, uint8_t* room, float* out) const {
    const int64_t code = code_starts ? code_starts[i] : 0, range = range_starts ? range_starts[i] : 0;
    for (int64_t l = 0; l < each; ++l, out += width) {
      const int64_t at = index[i * each + l];
      const int64_t first = kind == Kind::block ? (code * kElements + at) * bits : code * row_bytes * 8 + at * width * bits;
      const int64_t own = range + (kind == Kind::column ? (segments ? segments[l] : 0)
                                   : kind == Kind::row  ? at
                                                        : at / kElements);
      if (at < 0 || code < 0 || own < 0 || own >= held || first + width * bits > bytes * 8) return false;
      if (kind == Kind::column) {
        const float* lo = columns + own * 2 * width;
        kernels.decode_row(bits, width, codes, first, lo, lo + width, false, room, out);
      } else {
        const float lo = widened(ranges[2 * own]), step = widened(ranges[2 * own + 1]);
        if (kind == Kind::block)
          *out = lo + step * static_cast<float>(codes[first / 8] >> first % 8 & ((1 << bits) - 1));
        else
          kernels.decode_row(bits, width, codes, first, &lo, &step, true, room, out);
      }
    }
    return true;
  }
};

const int64_t* optional_longs(const std::optional<Tensor>& t, int64_t size, const char* name, std::vector<Tensor>& keep) {
  if (!t) return nullptr;
  STD_TORCH_CHECK(t->numel() == size, "coded_rows: ", name, " must be ", size, " numbers, got ", t->numel());
  keep.push_back(in_one_piece(*t));
  return list_of_longs(keep.back(), name);
}

Tensor coded_rows(Tensor codes, Tensor ranges, Tensor index, std::optional<Tensor> segments,
                  std::optional<Tensor> code_starts, std::optional<Tensor> range_starts, int64_t bits, int64_t width,
                  int64_t kind) {
  STD_TORCH_CHECK(codes.scalar_type() == ScalarType::Byte && ranges.scalar_type() == ScalarType::BFloat16,
                  "coded_rows: codes must be uint8 and ranges bfloat16");
  STD_TORCH_CHECK(kind >= 0 && kind <= 2 && width >= 1 && (bits == 1 || bits == 2 || bits == 4 || bits == 8) &&
                      (kind != 2 || width == 1) && index.dim() == 2 && (codes.dim() == 1 || codes.dim() == 2),
                  "coded_rows: arguments that do not fit");
  STD_TORCH_CHECK(kind == 0 ? ranges.dim() == 3 && ranges.size(1) == 2 && ranges.size(2) == width
                            : ranges.dim() == 2 && ranges.size(1) == 2,
                  "coded_rows: ranges do not fit the width ", width);
  STD_TORCH_CHECK(code_starts.has_value() == range_starts.has_value(), "coded_rows: starts go together");
  std::vector<Tensor> keep{in_one_piece(codes), in_one_piece(ranges), in_one_piece(index)};
  keep.reserve(6);
  Coded c{};
  c.codes = keep[0].const_data_ptr<uint8_t>();
  c.ranges = static_cast<const uint16_t*>(keep[1].const_data_ptr());
  c.index = longs(keep[2], "index");
  c.count = index.size(0);
  c.each = index.size(1);
  c.segments = optional_longs(segments, c.each, "segments", keep);
  c.code_starts = optional_longs(code_starts, c.count, "code_starts", keep);
  c.range_starts = optional_longs(range_starts, c.count, "range_starts", keep);
  c.bytes = codes.numel();
  c.held = ranges.size(0);
  c.row_bytes = codes.dim() == 2 ? codes.size(1) : 1;
  c.width = width;
  c.bits = static_cast<int>(bits);
  c.kind = static_cast<Kind>(kind);
  Tensor out = torch::stable::new_empty(ranges, {c.count, c.each, width}, ScalarType::Float);
  float* to = out.mutable_data_ptr<float>();
  std::vector<float> columns;
  if (c.kind == Kind::column) {
    columns.resize(ranges.numel());
    for (size_t i = 0; i < columns.size(); ++i) columns[i] = widened(c.ranges[i]);
    c.columns = columns.data();
  }
  const Copies& kernels = copies();
  const int64_t size = c.each * width;
  const int64_t block = std::max<int64_t>(1, (kWorthThreads / 4) / std::max<int64_t>(1, size));
  std::atomic<bool> outside{false};
  for_each_task((c.count + block - 1) / block, c.count * size > kWorthThreads, [&](int64_t task) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<uint8_t>(width));
    uint8_t* room = scratch.take<uint8_t>(width);
    for (int64_t i = task * block; i < std::min(c.count, (task + 1) * block); ++i)
      if (!c.decode(kernels, i, room, to + i * size)) outside = true;
  });
  STD_TORCH_CHECK(!outside, "coded_rows: an index lies outside of the ", c.bytes, " bytes of codes and ", c.held,
                  " ranges");
  return out;
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) { m.impl("coded_rows", TORCH_BOX(&embpress::coded_rows)); }
