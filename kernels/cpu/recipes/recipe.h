// A recipe: how the rows of served tables are put together, as numbers; read and checked for one call.
//
// What the numbers mean stands in kernels/ops/recipe_lookup.py.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "../../common/id_arguments.h"
#include "../rows/shapes.h"

namespace embpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Ids in ascending order, of which one is looked for.
struct Known {
  const int64_t* ids = nullptr;
  int64_t count = 0, base = 0;  // what is added to an id

  // The id's place; `count` where it is not there.
  int64_t place(int64_t id) const {
    const int64_t* found = std::lower_bound(ids, ids + count, id + base);
    return found != ids + count && *found == id + base ? found - ids : count;
  }
};

enum class Rule : int64_t { digit = 0, hash = 1, first = 2, among = 3 };

// One of the rows that a table's row is put together from.
struct PartRecipe {
  StoreView store{};
  Rule rule{};
  int64_t size = 0, first = 0;  // rows that it may take, and where they begin in the store
  int64_t stride = 1;
  uint32_t coefficients[4] = {};
  Remainder31 slots;  // of `size`
  Known known;
  size_t widened = 0;  // where the ranges of its columns are among those that are widened
};

enum class Kind : int64_t { parts = 0, chunks = 1, cores = 2 };

enum class Hot : int64_t { none = 0, first = 1, among = 2 };

struct TableRecipe {
  int64_t column = 0, rows = 0, padding = -1;
  Hot hot = Hot::none;
  PartRecipe hot_rows;
  Known hot_ids;
  Kind kind = Kind::parts;
  Combine combine = Combine::concat;
  std::vector<PartRecipe> parts;  // a flat array is one
  CoresView cores{};  // whose stores are those of the parts
  RobeShape robe{};
  std::vector<uint32_t> steps;
  int64_t row_offset = 0;
};

class Recipe {
 public:
  std::vector<TableRecipe> tables;
  // lookups of one table that are put together at a time: what they take stays about a core's cache
  int64_t block() const {
    return std::clamp<int64_t>((1 << 18) / std::max({dim_, chunks, int64_t{1}}), 1, 256);
  }

  // the most that one row takes
  int64_t chunks = 1, cores = 0, widest = 0, largest = 0;

  Recipe(const Tensor& numbers, const std::vector<Tensor>& arrays, int64_t count, int64_t dim)
      : at_(list_of_longs(numbers, "recipe")), end_(at_ + numbers.numel()), arrays_(arrays), dim_(dim) {
    STD_TORCH_CHECK(dim >= 1 && dim <= kWidest, "recipe_lookup: dim must be 1 to ", kWidest, ", got ", dim);
    check(count >= 1 && count <= numbers.numel(), "the number of tables");
    tables.resize(count);
    for (TableRecipe& table : tables) read(table);
    check(at_ == end_, "its end");
    for (TableRecipe& table : tables) {
      for (PartRecipe& part : table.parts) widen(part);
      widen(table.hot_rows);
      for (int64_t k = 0; k < table.cores.count; ++k) table.cores.core[k].store = table.parts[k].store;
    }
  }

 private:
  static constexpr int64_t kWidest = 1 << 24;  // so that no product of a shape overflows
  static constexpr int64_t kFar = 512 << 10;  // bytes that do not lie in a core's cache

  static void check(bool fits, const char* what) {
    STD_TORCH_CHECK(fits, "recipe_lookup: the recipe does not fit: ", what);
  }
  int64_t next() {
    check(at_ < end_, "too few numbers");
    return *at_++;
  }
  const Tensor& array(int64_t number) const {
    check(number >= 0 && number < static_cast<int64_t>(arrays_.size()), "there is no such array");
    const Tensor& found = arrays_[number];
    check(found.is_contiguous(), "an array is not contiguous");
    return found;
  }

  Known known(int64_t number) const {
    const Tensor& ids = array(number);
    return {list_of_longs(ids, "known ids"), ids.numel()};
  }

  // A store of rows of this width; of a flat array where it is 0.
  int64_t store(PartRecipe& part, int64_t width) {
    StoreView& s = part.store;
    const int64_t form = next();
    check(form >= 0 && form <= 4, "the form of a store");
    s.form = static_cast<Form>(form);
    const Tensor& held = array(next());
    const int64_t ranges = next(), bits = next(), range = next(), begin = next();
    const bool codes = s.form >= Form::columns;
    const ScalarType type = held.scalar_type();
    check(codes ? type == ScalarType::Byte && (bits == 1 || bits == 2 || bits == 4 || bits == 8)
                : s.form == Form::floats ? type == ScalarType::Float && bits == 32
                                         : type == ScalarType::BFloat16 && bits == 16,
          "the type of a store");
    check((s.form == Form::blocks) == (codes && width == 0), "a flat store");
    s.bits = bits;
    s.width = width;
    s.bytes = held.numel() * (codes ? 1 : bits / 8);
    check(begin >= 0 && begin <= s.bytes && (codes || begin == 0), "where a store begins");
    s.bytes -= begin;
    s.memory = static_cast<const uint8_t*>(held.const_data_ptr()) + begin;
    s.row_bytes = width * bits % 8 ? 0 : width * bits / 8;
    s.far = s.bytes > kFar;
    const int64_t rows = s.bytes * 8 / (std::max<int64_t>(width, 1) * bits);
    if (!codes) return rows;
    const Tensor& own = array(ranges);
    check(own.scalar_type() == ScalarType::BFloat16 && range >= 0, "the ranges of codes");
    s.ranges = static_cast<const uint16_t*>(own.const_data_ptr());
    if (s.form == Form::columns) {
      check(range < own.numel() / (2 * width), "the ranges of columns");
      s.ranges += range * 2 * width;
      part.widened = widened_.size() + 1;
      for (int64_t i = 0; i < 2 * width; ++i)
        widened_.push_back(std::bit_cast<float>(static_cast<uint32_t>(s.ranges[i]) << 16));
      return rows;
    }
    const int64_t each = s.form == Form::blocks ? 64 : 1, left = own.numel() / 2 - range;
    check(left >= 0, "the ranges of rows");
    s.ranges += 2 * range;
    return std::min(rows, left * each);
  }
  void widen(PartRecipe& part) {
    if (!part.widened) return;
    part.store.lo = widened_.data() + part.widened - 1;
    part.store.step = part.store.lo + part.store.width;
  }

  void read(TableRecipe& t) {
    t.column = next();
    t.rows = next();
    t.padding = next();
    check(t.column >= 0 && t.rows >= 0, "the rows of a table");
    const int64_t hot = next();
    check(hot >= 0 && hot <= 2, "where hot rows are");
    t.hot = static_cast<Hot>(hot);
    if (t.hot != Hot::none) {
      PartRecipe& rows = t.hot_rows;
      const int64_t held = store(rows, dim_);
      rows.size = next();
      rows.first = next();
      check(rows.size >= 0 && rows.first >= 0 && rows.first <= held - rows.size, "the hot rows");
      if (t.hot == Hot::among) {
        t.hot_ids = known(next());
        const int64_t begin = next();
        check(begin >= 0 && begin <= t.hot_ids.count - rows.size, "the ids of hot rows");
        const int64_t base = next();
        check(base >= 0 && base <= INT64_MAX - t.rows, "the ids of hot rows");
        t.hot_ids = {t.hot_ids.ids + begin, rows.size, base};
      }
    }
    const int64_t kind = next();
    check(kind >= 0 && kind <= 2, "the kind of a table");
    t.kind = static_cast<Kind>(kind);
    if (t.kind == Kind::parts)
      read_parts(t);
    else if (t.kind == Kind::chunks)
      read_flat(t);
    else
      read_cores(t);
  }

  void read_parts(TableRecipe& t) {
    const int64_t combine = next(), parts = next();
    check(combine >= 0 && combine <= 2 && parts >= 1 && parts <= end_ - at_, "how parts are combined");
    t.combine = static_cast<Combine>(combine);
    check(t.combine != Combine::concat || dim_ % parts == 0, "chunks of a row");
    t.parts.resize(parts);
    for (PartRecipe& part : t.parts) {
      const int64_t held = store(part, t.combine == Combine::concat ? dim_ / parts : dim_);
      const int64_t rule = next();
      check(rule >= 0 && rule <= 3, "the rule of a part");
      part.rule = static_cast<Rule>(rule);
      part.size = next();
      part.first = next();
      check(part.size >= 1 && part.first >= 0 && part.first <= held - part.size, "the rows of a part");
      if (part.rule == Rule::digit) {
        part.stride = next();
        check(part.stride >= 1 && t.rows <= int64_t{1} << 52, "the stride of a part");
      } else if (part.rule == Rule::hash) {
        check(t.rows <= int64_t{1} << 31, "the hash of a part");
        for (uint32_t& each : part.coefficients) each = coefficient();
        part.slots = Remainder31(part.size);
      } else if (part.rule == Rule::among) {
        part.known = known(next());
        check(part.known.count < part.size, "the ids of a part");
      }
    }
  }

  void read_flat(TableRecipe& t) {
    t.parts.resize(1);
    const int64_t held = store(t.parts[0], 0), z = next(), size = next();
    check(z >= 1 && z <= dim_ && size >= z && size <= held, "chunks of an array");
    t.row_offset = next();
    check(t.row_offset >= 0 && t.row_offset <= kPrime && t.rows <= kPrime - t.row_offset, "the rows of an array");
    uint32_t r[3];
    for (uint32_t& each : r) each = coefficient();
    RobeShape& s = t.robe;
    s.dim = dim_;
    s.z = z;
    s.chunks = (dim_ + z - 1) / z;
    s.slots = Remainder31(size - z + 1);
    s.r1 = r[0];
    s.r3 = r[2];
    t.steps.resize(s.chunks);
    for (int64_t j = 0; j < s.chunks; ++j) t.steps[j] = linear_hash(j, r[1], 0);
    s.step = t.steps.data();
    chunks = std::max(chunks, s.chunks);
  }
  void read_cores(TableRecipe& t) {
    CoresView& v = t.cores;
    v.count = next();
    check(v.count >= 2 && v.count <= kMostCores && t.rows <= int64_t{1} << 52, "the number of cores");
    t.parts.resize(v.count);
    int64_t rank = 1, columns = 1, rows = 1, decoded = 0;
    v.decoded = -1;
    for (int64_t k = 0; k < v.count; ++k) {
      CoreView& core = v.core[k];
      for (int64_t* number : {&core.each, &core.digits, &core.columns, &core.rank}) {
        *number = next();
        check(*number >= 1 && *number <= int64_t{1} << 40, "the shape of a core");
      }
      check(core.columns <= dim_ && core.rank <= 1 << 15, "the shape of a core");
      const int64_t slice = rank * core.columns * core.rank;
      check(slice % core.each == 0, "the rows of a slice");
      const int64_t held = store(t.parts[k], slice / core.each);
      core.first = next();
      check(core.first >= 0 && core.first <= held && core.digits <= (held - core.first) / core.each,
            "the slices of a core");
      rank = core.rank;
      columns *= core.columns;
      check(columns <= dim_, "the columns of cores");
      rows = rows > (int64_t{1} << 52) / core.digits ? int64_t{1} << 52 : rows * core.digits;
      v.widest = std::max(v.widest, columns * rank);
      if (t.parts[k].store.form >= Form::columns && slice > decoded) {
        decoded = slice;
        v.decoded = k;
      }
      v.largest = std::max(v.largest, slice);
    }
    check(columns == dim_ && rank == 1 && rows >= t.rows, "the shape of cores");
    cores = std::max(cores, v.count);
    widest = std::max(widest, v.widest);
    largest = std::max(largest, v.largest);
  }
  uint32_t coefficient() {
    const int64_t value = next();
    check(value >= 0 && value < kPrime, "a coefficient");
    return static_cast<uint32_t>(value);
  }

  const int64_t *at_, *end_;
  const std::vector<Tensor>& arrays_;
  int64_t dim_;
  std::vector<float> widened_;
};

}  // namespace embpress
