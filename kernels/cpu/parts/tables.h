// The part tables of a call of the compositional ops, and which of their rows ids take.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../../common/id_arguments.h"
#include "../simd/kernels.h"

namespace embpress {

constexpr const char* kCompositional = "compositional_lookup";
constexpr int64_t kPartsBlock = 256;             // lookups whose rows a task computes at a time
constexpr int64_t kPartsFar = 512 << 10;         // bytes of a weight that does not lie in a core's cache
constexpr int64_t kPartsWorthThreads = 1 << 15;  // elements of rows

// Numbers of one part of one table, for ids that vectors of 32 bits do not hold.
struct WidePart {
  int64_t coefficients[4], stride, size, base;

  int64_t row(int64_t id, bool hashed) const {
    return base + (hashed ? part_hash(id, coefficients, 1) : id / stride) % size;
  }
};

// What is known of the parts, the same for lookups and for bags.
class PartTables {
 public:
  PartsShape shape{};
  int64_t tables, held;  // held: rows of the weight

  PartTables(const torch::stable::Tensor& weight, const torch::stable::Tensor& coefficients,
             const torch::stable::Tensor& base, const torch::stable::Tensor& sizes, int64_t combine, int64_t tables,
             const int64_t* row_offsets, const int64_t* rows)
      : tables(tables) {
    STD_TORCH_CHECK(weight.dim() == 2 && base.dim() == 2 && coefficients.dim() == 3 && sizes.dim() == 2,
                    "compositional_lookup: weight, base and sizes must be 2-D, coefficients 3-D");
    STD_TORCH_CHECK(combine >= 0 && combine <= 2, "compositional_lookup: combine must be 0, 1 or 2, got ", combine);
    const int64_t parts = base.size(1), of_hash = coefficients.size(1), of_sizes = sizes.size(1);
    STD_TORCH_CHECK(parts >= 1 && base.size(0) == tables && coefficients.size(0) == tables &&
                        coefficients.size(2) == parts && sizes.size(0) == tables &&
                        (of_sizes == 1 || of_sizes == parts) && (of_hash == 1 || of_hash == 4),
                    "compositional_lookup: coefficients, base and sizes must be those of one number of parts");
    shape.combine = static_cast<Combine>(combine);
    shape.parts = parts;
    shape.width = weight.size(1);
    shape.far = weight.numel() * 4 > kPartsFar;
    held = weight.size(0);
    hashed_ = of_hash == 4;
    const int64_t *c = longs(coefficients, "coefficients"), *b = longs(base, "base"), *s = longs(sizes, "sizes");
    wide_.resize(tables * parts);
    fields_.resize(kPartFields * tables * parts);
    base_.resize(tables * parts);
    for (int64_t t = 0; t < tables; ++t) {
      any_wide_ |= rows[t] > (hashed_ ? int64_t{UINT32_MAX} + 1 : int64_t{INT32_MAX} + 1);
      for (int64_t j = 0; j < parts; ++j) {
        WidePart& p = wide_[t * parts + j];
        for (int64_t k = 0; k < of_hash; ++k) p.coefficients[k] = c[(t * of_hash + k) * parts + j];
        p.stride = hashed_ ? 1 : p.coefficients[0];
        p.size = s[t * of_sizes + (of_sizes == 1 ? 0 : j)];
        STD_TORCH_CHECK(p.stride >= 1 && p.size >= 1 && p.size <= held && row_offsets[t] >= 0 &&
                            row_offsets[t] <= held && b[t * parts + j] >= 0 &&
                            b[t * parts + j] <= held - p.size - row_offsets[t],
                        "compositional_lookup: part ", j, " of table ", t, " has ", p.size, " rows from ",
                        b[t * parts + j], " on, behind ", row_offsets[t], " of ", held);
        p.base = row_offsets[t] + b[t * parts + j];
        const int64_t at = t * parts + j;
        base_[at] = p.base;
        put(at, 4, Remainder31(p.size));
        if (!hashed_) put(at, 0, Remainder31(p.stride));
        for (int64_t k = 0; hashed_ && k < 4; ++k) fields_[k * tables * parts + at] = below_prime(p.coefficients[k]);
      }
    }
  }

  // The numbers of the parts for `count` lookups whose tables follow each other from the first on, over and over.
  void expand(int64_t count) {
    const int64_t parts = shape.parts, known = tables * parts;
    length_ = count;
    expanded_.resize(kPartFields * parts * count);
    expanded_base_.resize(parts * count);
    for (int64_t j = 0; j < parts; ++j) {
      for (int64_t f = 0; f < kPartFields; ++f) {
        uint32_t* to = expanded_.data() + (f * parts + j) * count;
        for (int64_t i = 0, t = 0; i < count; ++i, t = t + 1 == tables ? 0 : t + 1)
          to[i] = fields_[f * known + t * parts + j];
      }
      int64_t* to = expanded_base_.data() + j * count;
      for (int64_t i = 0, t = 0; i < count; ++i, t = t + 1 == tables ? 0 : t + 1) to[i] = base_[t * parts + j];
    }
  }

  // to (parts, apart) = the rows of the weight that `count` ids of table t take; `x` is room for as many.
  template <class I>
  void of_table(int64_t t, int64_t count, const I* id, uint32_t* x, int64_t* to, int64_t apart) const {
    const int64_t parts = shape.parts;
    if (any_wide_) {
      for (int64_t j = 0; j < parts; ++j)
        for (int64_t i = 0; i < count; ++i) to[j * apart + i] = wide_[t * parts + j].row(id[i], hashed_);
      return;
    }
    for (int64_t i = 0; i < count; ++i) x[i] = static_cast<uint32_t>(id[i]);
    for (int64_t j = 0; j < parts; ++j)
      copies().part_rows(hashed_, true, count, x, numbers(fields_, base_, t * parts + j), to + j * apart);
  }

  // The same of lookups in table after table, the first one in the first; at most so many as were expanded to.
  template <class I>
  void of_all(int64_t count, const I* id, uint32_t* x, int64_t* to, int64_t apart) const {
    const int64_t parts = shape.parts;
    if (tables == 1) return of_table(0, count, id, x, to, apart);
    if (any_wide_) {
      for (int64_t j = 0; j < parts; ++j)
        for (int64_t i = 0; i < count; ++i) to[j * apart + i] = wide_[i % tables * parts + j].row(id[i], hashed_);
      return;
    }
    for (int64_t i = 0; i < count; ++i) x[i] = static_cast<uint32_t>(id[i]);
    for (int64_t j = 0; j < parts; ++j)
      copies().part_rows(hashed_, false, count, x, numbers(expanded_, expanded_base_, j * length_), to + j * apart);
  }

 private:
  void put(int64_t at, int64_t field, const Remainder31& by) {
    const uint32_t of[] = {by.magic, by.by, static_cast<uint32_t>(by.shift)};
    for (int64_t k = 0; k < 3; ++k) fields_[(field + k) * tables * shape.parts + at] = of[k];
  }

  static PartNumbers numbers(const std::vector<uint32_t>& fields, const std::vector<int64_t>& base, int64_t at) {
    PartNumbers n;
    const int64_t apart = static_cast<int64_t>(base.size());
    for (int64_t f = 0; f < kPartFields; ++f) n.field[f] = fields.data() + f * apart + at;
    n.base = base.data() + at;
    return n;
  }

  bool hashed_ = false, any_wide_ = false;
  std::vector<WidePart> wide_;      // (tables, parts)
  std::vector<uint32_t> fields_;    // (fields, tables, parts)
  std::vector<int64_t> base_;       // (tables, parts)
  std::vector<uint32_t> expanded_;  // (fields, parts, length)
  std::vector<int64_t> expanded_base_;
  int64_t length_ = 0;
};

}  // namespace embpress
