// Inner loops over rows put together from parts; included once for each instruction set, see simd/body.h.
//
// `index` (parts, apart) is the rows of the weight that lookups take, those of a part one after another.

// The row that one part takes of each of `count` ids below 2^31 (hashed ones: 2^32). The numbers are those of all of
// them where they are COMMON, else each lookup's own.
template <bool HASHED, bool COMMON>
EMBPRESS_INLINE void rows_of_part(int64_t count, const uint32_t* __restrict x, const PartNumbers& n,
                                  int64_t* __restrict to) {
  const uint32_t *f0 = n.field[0], *f1 = n.field[1], *f2 = n.field[2], *f3 = n.field[3], *f4 = n.field[4],
                 *f5 = n.field[5], *f6 = n.field[6];
  const uint32_t c0 = *f0, c1 = *f1, c2 = *f2, c3 = *f3, c4 = *f4, c5 = *f5, c6 = *f6;
  const int64_t* each = n.base;
  const int64_t common = *each;
#define EMBPRESS_OWN(k) (COMMON ? c##k : f##k[i])
  for (int64_t i = 0; i < count; ++i) {
    uint32_t h;
    if (HASHED) {
      const uint32_t once = hash_in_lane(x[i], EMBPRESS_OWN(0), EMBPRESS_OWN(1));
      h = folded_hash(hash_in_lane(folded_hash(once), EMBPRESS_OWN(2), EMBPRESS_OWN(3)));
    } else {
      // the quotient is at most one too small, see Remainder31
      h = static_cast<uint32_t>(static_cast<uint64_t>(x[i]) * EMBPRESS_OWN(0) >> EMBPRESS_OWN(2));
      h += x[i] - h * EMBPRESS_OWN(1) >= EMBPRESS_OWN(1) ? 1 : 0;
    }
    const uint32_t q = static_cast<uint32_t>(static_cast<uint64_t>(h) * EMBPRESS_OWN(4) >> EMBPRESS_OWN(6));
    const uint32_t rest = h - q * EMBPRESS_OWN(5), less = rest - EMBPRESS_OWN(5);
    to[i] = static_cast<int64_t>(rest < less ? rest : less) + (COMMON ? common : each[i]);
  }
#undef EMBPRESS_OWN
}

static void part_rows(bool hashed, bool common, int64_t count, const uint32_t* x, const PartNumbers& n, int64_t* to) {
  if (count <= 0) return;
  if (hashed && common)
    rows_of_part<true, true>(count, x, n, to);
  else if (hashed)
    rows_of_part<true, false>(count, x, n, to);
  else if (common)
    rows_of_part<false, true>(count, x, n, to);
  else
    rows_of_part<false, false>(count, x, n, to);
}

// One row put together from the parts' rows at index[j * apart].
template <class T>
EMBPRESS_INLINE void combined_row(const PartsShape& s, const int64_t* index, int64_t apart, const T* weight, T* out) {
  const int64_t width = s.width, parts = s.parts;
  if (s.combine == Combine::concat || parts == 1) {
    for (int64_t j = 0; j < parts; ++j)
      __builtin_memcpy(out + j * width, weight + index[j * apart] * width, width * sizeof(T));
    return;
  }
  const T *a = weight + index[0] * width, *b = weight + index[apart] * width;
  const bool sum = s.combine == Combine::add;
  if (sum)
    for (int64_t c = 0; c < width; ++c) out[c] = a[c] + b[c];
  else
    for (int64_t c = 0; c < width; ++c) out[c] = a[c] * b[c];
  for (int64_t j = 2; j < parts; ++j) {
    b = weight + index[j * apart] * width;
    if (sum)
      for (int64_t c = 0; c < width; ++c) out[c] += b[c];
    else
      for (int64_t c = 0; c < width; ++c) out[c] *= b[c];
  }
}

// Has the parts' rows of a lookup brought near.
template <class T>
EMBPRESS_INLINE void fetch_parts(const PartsShape& s, const int64_t* index, int64_t apart, const T* weight) {
  for (int64_t j = 0; j < s.parts; ++j)
    for (int64_t b = 0; b < s.width; b += 64 / static_cast<int64_t>(sizeof(T)))
      __builtin_prefetch(weight + index[j * apart] * s.width + b);
}

// Rows of `count` lookups, combined, one after another.
template <class T>
static void combine_parts(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const T* weight,
                          T* out) {
  constexpr int64_t ahead = 8;
  const int64_t dim = s.dim();
  for (int64_t i = 0; i < count; ++i, out += dim) {
    if (s.far && i + ahead < count) fetch_parts(s, index + i + ahead, apart, weight);
    combined_row(s, index + i, apart, weight, out);
  }
}

// out += the combined rows of `count` lookups, each times its scale where there are scales; `room` is for a row.
template <class T>
static void pool_parts(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const T* weight,
                       const T* scale, T* out, T* room) {
  constexpr int64_t ahead = 8;
  const int64_t width = s.width, parts = s.parts, dim = s.dim();
  for (int64_t i = 0; i < count; ++i) {
    if (s.far && i + ahead < count) fetch_parts(s, index + i + ahead, apart, weight);
    const T by = scale ? scale[i] : T{1};
    if (s.combine == Combine::concat || parts == 1) {
      for (int64_t j = 0; j < parts; ++j) {
        const T* row = weight + index[j * apart + i] * width;
        T* to = out + j * width;
        for (int64_t c = 0; c < width; ++c) to[c] += by * row[c];
      }
      continue;
    }
    combined_row(s, index + i, apart, weight, room);
    for (int64_t c = 0; c < dim; ++c) out[c] += by * room[c];
  }
}

// out[i] = the combined row of lookup i times the gradient of its bag, which is one for all of them.
template <class T>
static void dot_parts(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const T* weight,
                      const T* grad, T* out, T* room) {
  for (int64_t i = 0; i < count; ++i) {
    combined_row(s, index + i, apart, weight, room);
    out[i] = dot(s.dim(), grad, room);
  }
}

// to += what flows into part j of a lookup whose row has the gradient `grad`, times `by`; `room` is for one row.
template <class T>
EMBPRESS_INLINE void add_part(const PartsShape& s, int64_t j, const int64_t* index, int64_t apart, const T* grad, T by,
                              const T* weight, T* to, T* room) {
  const int64_t width = s.width, parts = s.parts;
  if (s.combine != Combine::mult || parts == 1) {
    const T* flow = s.combine == Combine::concat ? grad + j * width : grad;
    for (int64_t c = 0; c < width; ++c) to[c] += by * flow[c];
  } else if (parts == 2) {
    const T* other = weight + index[(1 - j) * apart] * width;
    for (int64_t c = 0; c < width; ++c) to[c] += by * grad[c] * other[c];
  } else {
    // without a division, so that zeros are right
    for (int64_t c = 0; c < width; ++c) room[c] = by * grad[c];
    for (int64_t k = 0; k < parts; ++k) {
      if (k == j) continue;
      const T* other = weight + index[k * apart] * width;
      for (int64_t c = 0; c < width; ++c) room[c] *= other[c];
    }
    for (int64_t c = 0; c < width; ++c) to[c] += room[c];
  }
}

// sum[row] += the gradient of the weight's rows, for the rows that are owned. The gradient of lookup i is `flow.grad`,
// i times `step` further on, times its scale where there are scales; `room` is for one row.
template <class T>
static void scatter_parts(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart,
                          const PartsFlow<T>& flow, const T* weight, const Owned& owned, T* sum, T* room) {
  const int64_t width = s.width, parts = s.parts;
  const T* grad = flow.grad;
  for (int64_t i = 0; i < count; ++i, grad += flow.step)
    for (int64_t j = 0; j < parts; ++j) {
      const int64_t row = index[j * apart + i];
      if (!owned.has(row)) continue;
      add_part(s, j, index + i, apart, grad, flow.scale ? flow.scale[i] : T{1}, weight, sum + row * width, room);
    }
}

// to = the gradient of one row: the sum over `count` parts of lookups, `order` of which lookup and part (lookup times
// parts plus part) each is. The index (parts, apart) is of all lookups, `flow.row` the gradient's row of each.
template <class T>
static void gather_parts(const PartsShape& s, int64_t count, const int32_t* order, const int64_t* index, int64_t apart,
                         const PartsFlow<T>& flow, const T* weight, T* to, T* room) {
  for (int64_t c = 0; c < s.width; ++c) to[c] = T{0};
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = order[k] / s.parts, j = order[k] % s.parts;
    const T* grad = flow.grad + (flow.row ? flow.row[i] : i) * flow.step;
    add_part(s, j, index + i, apart, grad, flow.scale ? flow.scale[i] : T{1}, weight, to, room);
  }
}
