// Rows of what tables are served from, floats or codes, put where they belong; included once for each instruction set,
// see simd/body.h.

template <int L>
struct Lanes {
  typedef typename VectorOf<float, 4 * L>::type floats;
  typedef typename VectorOf<int32_t, 4 * L>::type integers;
};

// 0, 1, 2, …
template <class I, int... LANE>
EMBPRESS_INLINE I numbered(std::integer_sequence<int, LANE...>) {
  return I{LANE...};
}

// Each of the 32-bit words at `from` in `EACH` lanes: broadcasts and blends, where compilers turn conversions of bytes
// into moves of one at a time.
template <int L, int EACH>
EMBPRESS_INLINE typename Lanes<L>::integers words_at(const uint8_t* from) {
  typedef typename Lanes<L>::integers I;
  const I lane = numbered<I>(std::make_integer_sequence<int, L>{});
  int32_t word;
  __builtin_memcpy(&word, from + 4 * (L / EACH - 1), 4);
  I x = I{} + word;
#pragma GCC unroll 8
  for (int w = L / EACH - 2; w >= 0; --w) {
    __builtin_memcpy(&word, from + 4 * w, 4);
    x = lane < (w + 1) * EACH ? I{} + word : x;
  }
  return x;
}

// Codes c to c + L - 1 of a row that begins with a whole byte, as integers.
template <int BITS, int L>
EMBPRESS_INLINE typename Lanes<L>::integers codes_at(const uint8_t* row, int64_t c) {
  typedef typename Lanes<L>::integers I;
  constexpr int each = 32 / BITS;
  const uint64_t first = static_cast<uint64_t>(c) * BITS;  // unsigned: divided by a shift
  const I lane = numbered<I>(std::make_integer_sequence<int, L>{});
  I x;
  if constexpr (L >= each) {
    x = words_at<L, each>(row + first / 8);
  } else if constexpr (L * BITS >= 8) {
    int32_t word = 0;
    __builtin_memcpy(&word, row + first / 8, L * BITS / 8);
    x = I{} + word;
  } else {  // fewer lanes than a byte has codes
    x = I{} + (row[first / 8] >> (first % 8));
  }
  return (x >> (lane % each * BITS)) & ((1 << BITS) - 1);
}

template <int BITS>
EMBPRESS_INLINE float code_at(const uint8_t* row, int64_t c) {
  return static_cast<float>(row[c * BITS / 8] >> (c * BITS % 8) & ((1 << BITS) - 1));
}

EMBPRESS_INLINE float from_bfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float made;
  __builtin_memcpy(&made, &wide, 4);
  return made;
}

struct OfFloats {
  EMBPRESS_INLINE_MEMBER OfFloats(const StoreView&) {}
  EMBPRESS_INLINE_MEMBER void at_row(const StoreView&, int64_t, const uint8_t*) {}
  template <int L>
  EMBPRESS_INLINE_MEMBER typename Lanes<L>::floats get(const uint8_t* row, int64_t c) const {
    return load<typename Lanes<L>::floats>(reinterpret_cast<const float*>(row) + c);
  }
  EMBPRESS_INLINE_MEMBER float one(const uint8_t* row, int64_t c) const { return reinterpret_cast<const float*>(row)[c]; }
};

struct OfBFloat16 {
  EMBPRESS_INLINE_MEMBER OfBFloat16(const StoreView&) {}
  EMBPRESS_INLINE_MEMBER void at_row(const StoreView&, int64_t, const uint8_t*) {}
  template <int L>
  EMBPRESS_INLINE_MEMBER typename Lanes<L>::floats get(const uint8_t* row, int64_t c) const {
    typedef typename Lanes<L>::integers I;
    const I lane = numbered<I>(std::make_integer_sequence<int, L>{}), x = words_at<L, 2>(row + 2 * c);
    const I wide = lane % 2 == 0 ? x << 16 : x & static_cast<int32_t>(0xffff0000);
    return (typename Lanes<L>::floats)wide;
  }
  EMBPRESS_INLINE_MEMBER float one(const uint8_t* row, int64_t c) const {
    return from_bfloat16(reinterpret_cast<const uint16_t*>(row)[c]);
  }
};

// Ranges of columns, or of a row.
struct ColumnRanges {
  const float *lo, *step;
  EMBPRESS_INLINE_MEMBER ColumnRanges(const StoreView& s) : lo(s.lo), step(s.step) {}
  EMBPRESS_INLINE_MEMBER void at_row(const StoreView&, int64_t) {}
  template <class V>
  EMBPRESS_INLINE_MEMBER V decoded(V code, int64_t c) const {
    return load<V>(lo + c) + load<V>(step + c) * code;
  }
  EMBPRESS_INLINE_MEMBER float one(float code, int64_t c) const { return lo[c] + step[c] * code; }
};
struct RowRange {
  float lo = 0, step = 0;
  EMBPRESS_INLINE_MEMBER RowRange(const StoreView&) {}
  EMBPRESS_INLINE_MEMBER void at_row(const StoreView& s, int64_t index) {
    lo = from_bfloat16(s.ranges[2 * index]);
    step = from_bfloat16(s.ranges[2 * index + 1]);
  }
  template <class V>
  EMBPRESS_INLINE_MEMBER V decoded(V code, int64_t) const {
    return lo + step * code;
  }
  EMBPRESS_INLINE_MEMBER float one(float code, int64_t) const { return lo + step * code; }
};

template <int BITS, class Ranges>
struct OfCodes {
  Ranges ranges;
  EMBPRESS_INLINE_MEMBER OfCodes(const StoreView& s) : ranges(s) {}
  EMBPRESS_INLINE_MEMBER void at_row(const StoreView& s, int64_t index, const uint8_t*) { ranges.at_row(s, index); }
  template <int L>
  EMBPRESS_INLINE_MEMBER typename Lanes<L>::floats get(const uint8_t* row, int64_t c) const {
    return ranges.decoded(__builtin_convertvector((codes_at<BITS, L>(row, c)), typename Lanes<L>::floats), c);
  }
  EMBPRESS_INLINE_MEMBER float one(const uint8_t* row, int64_t c) const { return ranges.one(code_at<BITS>(row, c), c); }
};

// Rows that share bytes, so that one may begin within a byte.
template <int BITS, class Ranges>
struct OfShared {
  Ranges ranges;
  const uint8_t* memory;
  uint64_t bytes, first = 0;  // and the bit that the row begins with
  EMBPRESS_INLINE_MEMBER OfShared(const StoreView& s) : ranges(s), memory(s.memory), bytes(s.bytes) {}
  EMBPRESS_INLINE_MEMBER void at_row(const StoreView& s, int64_t index, const uint8_t*) {
    ranges.at_row(s, index);
    first = static_cast<uint64_t>(index * s.width) * BITS;
  }
  EMBPRESS_INLINE_MEMBER int32_t word_from(uint64_t bit) const {
    const uint64_t byte = bit / 8;
    uint64_t word = 0;
    if (byte + 8 <= bytes)
      __builtin_memcpy(&word, memory + byte, 8);
    else
      for (uint64_t b = byte; b < bytes; ++b) word |= static_cast<uint64_t>(memory[b]) << (8 * (b - byte));
    return static_cast<int32_t>(static_cast<uint32_t>(word >> bit % 8));
  }
  template <int L>
  EMBPRESS_INLINE_MEMBER typename Lanes<L>::floats get(const uint8_t*, int64_t c) const {
    typedef typename Lanes<L>::integers I;
    constexpr int each = 32 / BITS;
    const I lane = numbered<I>(std::make_integer_sequence<int, L>{});
    const uint64_t bit = first + static_cast<uint64_t>(c) * BITS;
    I x = I{} + word_from(bit);
    if constexpr (L > each) x = lane < each ? x : I{} + word_from(bit + 32);
    x = (x >> (lane % each * BITS)) & ((1 << BITS) - 1);
    return ranges.decoded(__builtin_convertvector(x, typename Lanes<L>::floats), c);
  }
  EMBPRESS_INLINE_MEMBER float one(const uint8_t*, int64_t c) const {
    const uint64_t bit = first + static_cast<uint64_t>(c) * BITS;
    return ranges.one(static_cast<float>(memory[bit / 8] >> bit % 8 & ((1 << BITS) - 1)), c);
  }
};

struct Set {
  template <class V>
  EMBPRESS_INLINE_MEMBER void put(float* to, V value, float) const { store(to, value); }
  EMBPRESS_INLINE_MEMBER void one(float* to, float value, float) const { *to = value; }
};
struct Add {
  template <class V>
  EMBPRESS_INLINE_MEMBER void put(float* to, V value, float) const { store(to, load<V>(to) + value); }
  EMBPRESS_INLINE_MEMBER void one(float* to, float value, float) const { *to += value; }
};
struct AddScaled {
  template <class V>
  EMBPRESS_INLINE_MEMBER void put(float* to, V value, float by) const { store(to, load<V>(to) + by * value); }
  EMBPRESS_INLINE_MEMBER void one(float* to, float value, float by) const { *to += by * value; }
};
struct Multiply {
  template <class V>
  EMBPRESS_INLINE_MEMBER void put(float* to, V value, float) const { store(to, load<V>(to) * value); }
  EMBPRESS_INLINE_MEMBER void one(float* to, float value, float) const { *to *= value; }
};

template <class From, class How>
static void take_from(const StoreView& s, int64_t count, const int64_t* index, float* const* to, int64_t at,
                      const float* scale) {
  constexpr int64_t ahead = 12;
  const int64_t width = s.width;
  From from(s);
  const How how{};
  for (int64_t i = 0; i < count; ++i) {
    if (s.far && i + ahead < count) {
      const uint8_t* next = s.memory + index[i + ahead] * s.row_bytes;
      for (int64_t b = 0; b < s.row_bytes; b += 64) __builtin_prefetch(next + b);
    }
    const uint8_t* row = s.memory + index[i] * s.row_bytes;
    from.at_row(s, index[i], row);
    float* out = to[i] + at;
    const float by = scale ? scale[i] : 1.0f;
    int64_t c = 0;
#if EMBPRESS_VECTOR_BYTES >= 64
    for (; width - c >= 16; c += 16) how.put(out + c, from.template get<16>(row, c), by);
#endif
#if EMBPRESS_VECTOR_BYTES >= 32
    for (; width - c >= 8; c += 8) how.put(out + c, from.template get<8>(row, c), by);
#endif
    for (; width - c >= 4; c += 4) how.put(out + c, from.template get<4>(row, c), by);
    for (; c < width; ++c) how.one(out + c, from.one(row, c), by);
  }
}

template <class From>
EMBPRESS_INLINE void take_into(const StoreView& s, int64_t count, const int64_t* index, float* const* to, int64_t at,
                               Into into, const float* scale) {
  if (into == Into::set)
    take_from<From, Set>(s, count, index, to, at, scale);
  else if (into == Into::multiply)
    take_from<From, Multiply>(s, count, index, to, at, scale);
  else if (scale)
    take_from<From, AddScaled>(s, count, index, to, at, scale);
  else
    take_from<From, Add>(s, count, index, to, at, scale);
}

template <class Ranges>
EMBPRESS_INLINE void take_codes(const StoreView& s, int64_t count, const int64_t* index, float* const* to, int64_t at,
                                Into into, const float* scale) {
  if (s.bits == 8) return take_into<OfCodes<8, Ranges>>(s, count, index, to, at, into, scale);
  if (s.row_bytes) {
    if (s.bits == 4) return take_into<OfCodes<4, Ranges>>(s, count, index, to, at, into, scale);
    if (s.bits == 2) return take_into<OfCodes<2, Ranges>>(s, count, index, to, at, into, scale);
    return take_into<OfCodes<1, Ranges>>(s, count, index, to, at, into, scale);
  }
  if (s.bits == 4) return take_into<OfShared<4, Ranges>>(s, count, index, to, at, into, scale);
  if (s.bits == 2) return take_into<OfShared<2, Ranges>>(s, count, index, to, at, into, scale);
  take_into<OfShared<1, Ranges>>(s, count, index, to, at, into, scale);
}

// Row index[i] of the store goes to to[i] + at: is set, added (times scale[i] where there are scales) or multiplied.
static void take_rows(const StoreView& s, int64_t count, const int64_t* index, float* const* to, int64_t at, Into into,
                      const float* scale) {
  switch (s.form) {
    case Form::floats:
      return take_into<OfFloats>(s, count, index, to, at, into, scale);
    case Form::bfloat16:
      return take_into<OfBFloat16>(s, count, index, to, at, into, scale);
    case Form::columns:
      return take_codes<ColumnRanges>(s, count, index, to, at, into, scale);
    default:
      return take_codes<RowRange>(s, count, index, to, at, into, scale);
  }
}

// Elements start … start + size - 1 of a flat array of codes, whose blocks of 64 have a range each.
template <int BITS>
EMBPRESS_INLINE void decode_chunk(const StoreView& s, int64_t start, int64_t size, float* to) {
  typedef Lanes<4>::floats V;
  typedef Lanes<4>::integers I;
  constexpr int mask = (1 << BITS) - 1;
  const I shift = {0, BITS, 2 * BITS, 3 * BITS};
  for (const int64_t end = start + size; start < end;) {
    const int64_t block = start / 64, stop = end < (block + 1) * 64 ? end : (block + 1) * 64;
    const float lo = from_bfloat16(s.ranges[2 * block]), step = from_bfloat16(s.ranges[2 * block + 1]);
    for (; stop - start >= 4; start += 4, to += 4) {
      const int64_t byte = start * BITS / 8;
      uint64_t word = 0;
      if (byte + 8 <= s.bytes)
        __builtin_memcpy(&word, s.memory + byte, 8);
      else
        __builtin_memcpy(&word, s.memory + byte, s.bytes - byte);
      const auto low = static_cast<uint32_t>(word >> start * BITS % 8);
      const I codes = ((I{} + static_cast<int32_t>(low)) >> shift) & mask;
      store(to, lo + step * __builtin_convertvector(codes, V));
    }
    for (; start < stop; ++start) *to++ = lo + step * code_at<BITS>(s.memory, start);
  }
}

// Rows x (count) of the table of a flat array, cut from it, go to `to`; `room` is for count * (chunks + 1) numbers.
static void take_chunks(const StoreView& s, const RobeShape& robe, int64_t count, const int64_t* x, float* const* to,
                        uint32_t* room) {
  const RobeStarts starts = robe_starts(robe, count, x, room);
  const int64_t dim = robe.dim, z = robe.z, chunks = robe.chunks;
  const float* floats = reinterpret_cast<const float*>(s.memory);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t* start = starts.start + i * starts.by_row;
    float* out = to[i];
    for (int64_t j = 0; j < chunks; ++j, start += starts.by_chunk, out += z) {
      const int64_t size = z < dim - j * z ? z : dim - j * z;
      if (s.form == Form::floats) {
        const float* from = floats + *start;
        int64_t c = 0;
        for (; size - c >= 4; c += 4) store(out + c, load<Lanes<4>::floats>(from + c));
        for (; c < size; ++c) out[c] = from[c];
      } else if (s.form == Form::bfloat16) {
        const uint16_t* from = reinterpret_cast<const uint16_t*>(s.memory) + *start;
        for (int64_t c = 0; c < size; ++c) out[c] = from_bfloat16(from[c]);
      } else if (s.bits == 8) {
        decode_chunk<8>(s, *start, size, out);
      } else if (s.bits == 4) {
        decode_chunk<4>(s, *start, size, out);
      } else if (s.bits == 2) {
        decode_chunk<2>(s, *start, size, out);
      } else {
        decode_chunk<1>(s, *start, size, out);
      }
    }
  }
}
