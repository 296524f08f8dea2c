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

// Calls f with the bytes of every chunk where they are one of a few numbers, else with 0.
template <class F>
EMBPRESS_INLINE void by_chunk_bytes(const RobeShape& s, int64_t size_of, F f) {
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

// Rows of the array of elements U one after another, without their signs.
template <int BYTES, class U>
EMBPRESS_INLINE void robe_copy(const RobeShape& s, int64_t count, const RobeStarts& at, const U* memory, U* out) {
  constexpr int64_t line = 64 / sizeof(U), ahead = 4;
  const int64_t chunks = s.chunks, z = BYTES ? BYTES / static_cast<int64_t>(sizeof(U)) : s.z;
  const int64_t last = s.dim - (chunks - 1) * z;
  for (int64_t i = 0; i < count; ++i, out += s.dim) {
    const uint32_t* start = at.start + i * at.by_row;
    if (s.far && i + ahead < count)
      for (int64_t j = 0; j < chunks; ++j) {
        const U* from = memory + start[ahead * at.by_row + j * at.by_chunk];
        for (int64_t b = 0; b < z; b += line) __builtin_prefetch(from + b);
        __builtin_prefetch(from + z - 1);
      }
    if constexpr (BYTES != 0) {
      for (int64_t j = 0; j < chunks; ++j) __builtin_memcpy(out + j * z, memory + start[j * at.by_chunk], BYTES);
    } else if (z == 1) {
      for (int64_t j = 0; j < chunks; ++j) out[j] = memory[start[j * at.by_chunk]];
    } else {
      for (int64_t j = 0; j < chunks; ++j)
        __builtin_memcpy(out + j * z, memory + start[j * at.by_chunk], (j + 1 < chunks ? z : last) * sizeof(U));
    }
  }
}

// Rows x (count) of the array of elements U, one after another; `room` is for their starts.
template <class U>
static void robe_forward(const RobeShape& s, int64_t count, const int64_t* x, const U* memory, U* out,
                         uint32_t* room) {
  const RobeStarts at = robe_starts(s, count, x, room);
  by_chunk_bytes(s, sizeof(U), [&](auto bytes) { robe_copy<decltype(bytes)::count>(s, count, at, memory, out); });
  if (s.sign_step)
    for (int64_t i = 0; i < count; ++i) robe_signs(s, x[i], 0, s.dim, out + i * s.dim, out + i * s.dim);
}

// to += from, or scale * from where there is one, over chunks of BYTES, or `size` elements.
template <int BYTES, class T>
EMBPRESS_INLINE void robe_add(const T* from, const T* scale, int64_t size, T* to) {
  if constexpr (BYTES != 0) {
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

// The chunks that reach into a part of the array, in the order of the lookups: numbers of rows and of chunks.
struct RobeList {
  int64_t size;
  const uint32_t *row, *chunk;
};

// Those that reach between `begin` and `end`; without a branch, since every other chunk may be another task's.
EMBPRESS_INLINE RobeList robe_owned(const RobeShape& s, int64_t count, const RobeStarts& at, int64_t begin, int64_t end,
                                    uint32_t* room) {
  constexpr int64_t beyond = int64_t{1} << 31;  // where no chunk starts
  uint32_t *row = room, *chunk = room + count * s.chunks;
  const int64_t low = begin - s.z + 1, first = low < 0 ? 0 : low < beyond ? low : beyond;
  const int64_t length = end - first < 0 ? 0 : end - first < beyond ? end - first : beyond;
  const uint32_t from = static_cast<uint32_t>(first), span = static_cast<uint32_t>(length);
  int64_t size = 0;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < s.chunks; ++j) {
      row[size] = static_cast<uint32_t>(i);
      chunk[size] = static_cast<uint32_t>(j);
      size += at.start[i * at.by_row + j * at.by_chunk] - from < span;
    }
  return {size, row, chunk};
}

// sum[h] += gradient of rows x (count), for elements h from `begin` to `end`. Row i's is row bag[i] of `grad`, scaled by
// scale[i]; without `bag` row i, without `scale` as it is. `room` is for starts and, where `some` elements are left
// out, for a list of chunks; `signs` for a chunk.
template <class T>
static void robe_backward(const RobeShape& s, int64_t count, const int64_t* x, const T* grad, const int64_t* bag,
                          const T* scale, bool some, int64_t begin, int64_t end, T* sum, uint32_t* room, T* signs) {
  const RobeStarts at = robe_starts(s, count, x, room);
  by_chunk_bytes(s, sizeof(T), [&](auto bytes) {
    constexpr int BYTES = decltype(bytes)::count;
    const int64_t z = BYTES ? BYTES / static_cast<int64_t>(sizeof(T)) : s.z;
    const auto scatter = [&](int64_t i, int64_t j) {
      const int64_t start = at.start[i * at.by_row + j * at.by_chunk];
      const int64_t size = BYTES || j + 1 < s.chunks ? z : s.dim - j * z;
      const T* flow = grad + (bag ? bag[i] : i) * s.dim + j * z;
      const T* by = scale ? scale + i : nullptr;
      if (s.sign_step) {
        robe_signs(s, x[i], j * z, j * z + size, flow, signs);
        flow = signs;
      }
      const int64_t low = begin > start ? begin - start : 0, high = end < start + size ? end - start : size;
      if (low == 0 && high == size)
        robe_add<BYTES>(flow, by, size, sum + start);
      else
        robe_add<0>(flow + low, by, high - low, sum + start + low);  // nothing where `high` is less
    };
    if (!some) {
      for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < s.chunks; ++j) scatter(i, j);
      return;
    }
    const RobeList list = robe_owned(s, count, at, begin, end, room + count * (1 + s.chunks));
    for (int64_t k = 0; k < list.size; ++k) scatter(list.row[k], list.chunk[k]);
  });
}

// Row bag[i] of `out` += row x[i], scaled by scale[i] where there is one. `room` is for starts, `row` for a row.
template <class T>
static void robe_pool(const RobeShape& s, int64_t count, const int64_t* x, const int64_t* bag, const T* scale,
                      const T* memory, T* out, uint32_t* room, T* row) {
  const RobeStarts at = robe_starts(s, count, x, room);
  by_chunk_bytes(s, sizeof(T), [&](auto bytes) {
    constexpr int BYTES = decltype(bytes)::count;
    const int64_t z = BYTES ? BYTES / static_cast<int64_t>(sizeof(T)) : s.z;
    for (int64_t i = 0; i < count; ++i) {
      const T* by = scale ? scale + i : nullptr;
      T* to = out + bag[i] * s.dim;
      const RobeStarts own{at.start + i * at.by_row, 0, at.by_chunk};
      if (s.sign_step || (BYTES == 0 && z < 8)) {
        robe_copy<BYTES>(s, 1, own, memory, row);
        if (s.sign_step) robe_signs(s, x[i], 0, s.dim, row, row);
        robe_add<0>(row, by, s.dim, to);
      } else {
        for (int64_t j = 0; j < s.chunks; ++j)
          robe_add<BYTES>(memory + own.start[j * own.by_chunk], by, j + 1 < s.chunks ? z : s.dim - j * z, to + j * z);
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
