// Inner loops of ROBE's lookup and gradient; included once for each instruction set, see simd/body.h.

// Where the chunks of a block of rows start: chunk j of row i at start[i * by_row + j * by_chunk].
struct RobeStarts {
  const uint32_t* start;
  int64_t by_row, by_chunk;
};

// Starts of the rows x (count), each below `slots` whatever x holds: of one chunk of many rows at a time, or of many
// chunks of a row, whichever are more.
EMBPRESS_INLINE RobeStarts robe_starts(const RobeShape& s, int64_t count, const int64_t* x, uint32_t* room) {
  uint32_t* __restrict first = room;
  uint32_t* __restrict start = room + count;
  const uint32_t* __restrict step = s.step;
  const Remainder31 slots = s.slots;
  linear_hashes(count, x, s.r3, s.r1, first);
  const bool in_rows = s.chunks > 8 || s.chunks > count;
  if (in_rows) {
    for (int64_t i = 0; i < count; ++i, start += s.chunks) {
      const uint32_t begin = first[i];
      for (int64_t j = 0; j < s.chunks; ++j) {
        const uint32_t h = begin + step[j];
        start[j] = remainder_in_lane(h < h - kPrime ? h : h - kPrime, slots);
      }
    }
    return {room + count, s.chunks, 1};
  }
  for (int64_t j = 0; j < s.chunks; ++j, start += count) {
    const uint32_t add = step[j];
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t h = first[i] + add;
      start[i] = remainder_in_lane(h < h - kPrime ? h : h - kPrime, slots);
    }
  }
  return {room + count, 1, count};
}

// The element or its negative: U are floating-point numbers, or their bits.
EMBPRESS_INLINE float negated(float from, uint32_t odd) { return odd ? -from : from; }
EMBPRESS_INLINE double negated(double from, uint32_t odd) { return odd ? -from : from; }
template <class U>
EMBPRESS_INLINE U negated(U from, uint32_t odd) {
  return from ^ static_cast<U>(static_cast<U>(odd) << (8 * sizeof(U) - 1));
}

// Gives elements `begin` to `end` of row x their signs.
template <class U>
EMBPRESS_INLINE void robe_signs(const RobeShape& s, int64_t x, int64_t begin, int64_t end, const U* from, U* to) {
  const uint32_t first = hash_in_lane(static_cast<uint32_t>(x), s.s3, s.s1);
  for (int64_t i = begin; i < end; ++i) {
    uint32_t h = first + s.sign_step[i];
    h = h < h - kPrime ? h : h - kPrime;
    to[i - begin] = negated(from[i - begin], h & 1);
  }
}

template <int N>
struct RobeBytes {
  static constexpr int count = N;
};

// Calls f with the bytes of every chunk where they are one of a few numbers, or 1 for one element; else with 0.
template <class F>
EMBPRESS_INLINE void by_chunk_bytes(const RobeShape& s, int64_t size_of, F f) {
  if (s.z == 1) return f(RobeBytes<1>{});
  switch (s.chunks * s.z == s.dim ? s.z * size_of : 0) {
    case 16:
      return f(RobeBytes<16>{});
    case 32:
      return f(RobeBytes<32>{});
    case 64:
      return f(RobeBytes<64>{});
    case 128:
      return f(RobeBytes<128>{});
    default:
      return f(RobeBytes<0>{});
  }
}

// One row of the array of elements U, the chunks of which start at every `stride`-th of `start`; without its signs.
template <int BYTES, class U>
EMBPRESS_INLINE void robe_copy(const RobeShape& s, const uint32_t* start, int64_t stride, const U* memory, U* out) {
  if constexpr (BYTES == 1) {
    for (int64_t j = 0; j < s.chunks; ++j) out[j] = memory[start[j * stride]];
  } else if constexpr (BYTES != 0) {
    constexpr int64_t z = BYTES / static_cast<int64_t>(sizeof(U));
    for (int64_t j = 0; j < s.chunks; ++j) __builtin_memcpy(out + j * z, memory + start[j * stride], BYTES);
  } else {
    const int64_t last = s.chunks - 1;
    for (int64_t j = 0; j < last; ++j) __builtin_memcpy(out + j * s.z, memory + start[j * stride], s.z * sizeof(U));
    __builtin_memcpy(out + last * s.z, memory + start[last * stride], (s.dim - last * s.z) * sizeof(U));
  }
}

// Rows x (count) of the array of elements U, one after another; `room` is for their starts.
template <class U>
static void robe_forward(const RobeShape& s, int64_t count, const int64_t* x, const U* memory, U* out,
                         uint32_t* room) {
  const RobeStarts at = robe_starts(s, count, x, room);
  by_chunk_bytes(s, sizeof(U), [&](auto bytes) {
    constexpr int64_t line = 64 / sizeof(U), ahead = 8;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t* start = at.start + i * at.by_row;
      if (s.far && i + ahead < count)
        for (int64_t j = 0; j < s.chunks; ++j)
          for (int64_t e = 0; e < s.z; e += line)
            __builtin_prefetch(memory + start[ahead * at.by_row + j * at.by_chunk] + e);
      U* row = out + i * s.dim;
      robe_copy<decltype(bytes)::count>(s, start, at.by_chunk, memory, row);
      if (s.sign_step) robe_signs(s, x[i], 0, s.dim, row, row);
    }
  });
}

// to += from, or *scale * from where there is a scale, over chunks of BYTES, or `size` elements.
template <int BYTES, class T>
EMBPRESS_INLINE void robe_add(const T* from, const T* scale, int64_t size, T* to) {
  if constexpr (BYTES == 1) {
    *to += scale ? *scale * *from : *from;
  } else if constexpr (BYTES != 0) {
    constexpr int bytes = BYTES < EMBPRESS_VECTOR_BYTES ? BYTES : EMBPRESS_VECTOR_BYTES;
    constexpr int lanes = bytes / sizeof(T), vectors = BYTES / bytes;
    typedef typename VectorOf<T, bytes>::type V;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const V add = load<V>(from + v * lanes);
      store(to + v * lanes, load<V>(to + v * lanes) + (scale ? add * *scale : add));
    }
  } else if (scale) {
    for (int64_t e = 0; e < size; ++e) to[e] += *scale * from[e];
  } else {
    for (int64_t e = 0; e < size; ++e) to[e] += from[e];
  }
}

// What flows back into an array of which one task sums the elements from `begin` to `end`.
template <class T>
struct RobeFlow {
  const RobeShape& s;
  const int64_t *x, *bag;
  const T *grad, *scale;
  int64_t begin, end;
  T *sum, *signs, *inside;

  // Where chunk j of row i begins in `grad`.
  EMBPRESS_INLINE_MEMBER int64_t at(int64_t i, int64_t j) const { return (bag ? bag[i] : i) * s.dim + j * s.z; }

  // Row i's chunk of BYTES, or of what is left of the row from `from` on, into the array from `start` on.
  template <int BYTES>
  EMBPRESS_INLINE_MEMBER void add(int64_t i, int64_t start, int64_t from) const {
    const T *flow = grad + from, *by = scale ? scale + i : nullptr;
    int64_t size = s.z;
    if constexpr (BYTES == 0) {
      const int64_t column = from - at(i, 0);
      size = s.dim - column < s.z ? s.dim - column : s.z;
    }
    if (s.sign_step) {
      const int64_t column = from - at(i, 0);
      robe_signs(s, x[i], column, column + size, flow, signs);
      flow = signs;
    }
    if (start >= begin && start + size <= end) return robe_add<BYTES>(flow, by, size, sum + start);
    // Of a chunk that reaches beyond, the part inside, by the same instructions: a product may be rounded before it is
    // added, or not.
    const int64_t low = begin > start ? begin - start : 0, high = end < start + size ? end - start : size;
    for (int64_t e = 0; e < size; ++e) inside[e] = e >= low && e < high ? sum[start + e] : T{0};
    robe_add<BYTES>(flow, by, size, inside);
    for (int64_t e = low; e < high; ++e) sum[start + e] = inside[e];  // nothing where `high` is less
  }
};

// sum[h] += gradient of rows x (count), for elements h from `begin` to `end`; `some` of all, or all. Row i's is row
// bag[i] of `grad`, scaled by scale[i]; without `bag` row i, without `scale` as it is. `room` is for starts and for the
// list of three numbers a chunk, `signs` for two chunks.
template <class T>
static void robe_backward(const RobeShape& s, int64_t count, const int64_t* x, const T* grad, const int64_t* bag,
                          const T* scale, bool some, int64_t begin, int64_t end, T* sum, uint32_t* room, T* signs) {
  const RobeStarts at = robe_starts(s, count, x, room);
  const RobeFlow<T> flow{s, x, bag, grad, scale, begin, end, sum, signs, signs + s.z};
  if (!some) {
    by_chunk_bytes(s, sizeof(T), [&](auto bytes) {
      for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < s.chunks; ++j)
          flow.template add<decltype(bytes)::count>(i, at.start[i * at.by_row + j * at.by_chunk], flow.at(i, j));
    });
    return;
  }
  // First a list of the chunks that reach between `begin` and `end`, in the order of the lookups: without a branch,
  // since every other chunk may be another task's.
  constexpr int64_t beyond = int64_t{1} << 31;  // where no chunk starts
  uint32_t* __restrict row = room + count * (1 + s.chunks);
  uint32_t* __restrict starts = row + count * s.chunks;
  uint32_t* __restrict column = starts + count * s.chunks;
  const int64_t reach = begin - s.z + 1, first = reach < 0 ? 0 : reach < beyond ? reach : beyond;
  const int64_t length = end - first < 0 ? 0 : end - first < beyond ? end - first : beyond;
  const uint32_t from = static_cast<uint32_t>(first), span = static_cast<uint32_t>(length);
  int64_t size = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t* start = at.start + i * at.by_row;
    for (int64_t j = 0; j < s.chunks; ++j, start += at.by_chunk) {
      row[size] = static_cast<uint32_t>(i);
      starts[size] = *start;
      column[size] = static_cast<uint32_t>(j);
      size += *start - from < span;
    }
  }
  by_chunk_bytes(s, sizeof(T), [&](auto bytes) {
    for (int64_t k = 0; k < size; ++k)
      flow.template add<decltype(bytes)::count>(row[k], starts[k], flow.at(row[k], column[k]));
  });
}

// Row bag[i] of `out` += row x[i], scaled by scale[i] where there is one. `room` is for starts, `row` for a row.
template <class T>
static void robe_pool(const RobeShape& s, int64_t count, const int64_t* x, const int64_t* bag, const T* scale,
                      const T* memory, T* out, uint32_t* room, T* row) {
  const RobeStarts at = robe_starts(s, count, x, room);
  by_chunk_bytes(s, sizeof(T), [&](auto bytes) {
    constexpr int BYTES = decltype(bytes)::count;
    for (int64_t i = 0; i < count; ++i) {
      const T* by = scale ? scale + i : nullptr;
      const uint32_t* start = at.start + i * at.by_row;
      T* to = out + bag[i] * s.dim;
      if (BYTES <= 1 || s.sign_step) {
        robe_copy<BYTES>(s, start, at.by_chunk, memory, row);
        if (s.sign_step) robe_signs(s, x[i], 0, s.dim, row, row);
        robe_add<0>(row, by, s.dim, to);
      } else {
        for (int64_t j = 0; j < s.chunks; ++j)
          robe_add<BYTES>(memory + start[j * at.by_chunk], by, s.z, to + j * s.z);
      }
    }
  });
}

// to[i] = row bag[i] of `grad` times row x[i]. `room` is for starts, `row` for a row.
template <class T>
static void robe_dots(const RobeShape& s, int64_t count, const int64_t* x, const int64_t* bag, const T* grad,
                      const T* memory, T* to, uint32_t* room, T* row) {
  for (int64_t i = 0; i < count; ++i) {
    robe_forward(s, 1, x + i, memory, row, room);
    to[i] = dot(s.dim, grad + bag[i] * s.dim, row);
  }
}
