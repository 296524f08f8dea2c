// The last core of a train: small products of one lookup each, with slices that no two lookups need share.
//
// A lookup has `rows` partial products of `rank` elements; row i lies at `partial + i / per_block * stride +
// i % per_block * padded`, with zeros from `rank` to `padded`, a multiple of the vector. The slice of the last core is
// `(rank, q)` row-major, and the finished row `(rows, q)`.

// Walks over the rows of a lookup without a division for each.
struct RowWalk {
  const LastShape& s;
  int64_t at = 0, inside = 0;

  EMBPRESS_INLINE_MEMBER int64_t next() {
    const int64_t here = at;
    at += s.padded;
    if (++inside == s.per_block) {
      inside = 0;
      at += s.stride - s.per_block * s.padded;
    }
    return here;
  }
};

// ROWS rows, one vector V of the slice's columns: out[i][j...] = sum_r partial[i][r] slice[r][j...]
template <class T, class V, int ROWS>
EMBPRESS_INLINE void last_forward_tile(const LastShape& s, const T* const* partial, const T* slice, T* out) {
  // two sums a row: a chain of dependent additions would leave the units idle
  V even[ROWS], odd[ROWS];
  for (int i = 0; i < ROWS; ++i) even[i] = odd[i] = V{};
  int64_t r = 0;
  for (; r + 1 < s.rank; r += 2) {
    const V g0 = load<V>(slice + r * s.q), g1 = load<V>(slice + (r + 1) * s.q);
    for (int i = 0; i < ROWS; ++i) even[i] += g0 * partial[i][r];
    for (int i = 0; i < ROWS; ++i) odd[i] += g1 * partial[i][r + 1];
  }
  if (r < s.rank) {
    const V g0 = load<V>(slice + r * s.q);
    for (int i = 0; i < ROWS; ++i) even[i] += g0 * partial[i][r];
  }
  for (int i = 0; i < ROWS; ++i) store(out + i * s.q, even[i] + odd[i]);
}

template <class T, class V>
EMBPRESS_INLINE int64_t last_forward_columns(const LastShape& s, const T* partial, const T* slice, T* out, int64_t j) {
  constexpr int lanes = sizeof(V) / sizeof(T);
  for (; s.q - j >= lanes; j += lanes) {
    RowWalk walk{s};
    int64_t i = 0;
    for (; s.rows - i >= 4; i += 4) {
      const T* four[4];
      for (int l = 0; l < 4; ++l) four[l] = partial + walk.next();
      last_forward_tile<T, V, 4>(s, four, slice + j, out + i * s.q + j);
    }
    for (; i < s.rows; ++i) {
      const T* one[1] = {partial + walk.next()};
      last_forward_tile<T, V, 1>(s, one, slice + j, out + i * s.q + j);
    }
  }
  return j;
}

// out (rows, q) = partial (rows, rank) x slice (rank, q)
template <class T>
static void last_forward(const LastShape& s, const T* partial, const T* slice, T* out) {
  int64_t j = last_forward_columns<T, typename VectorOf<T, EMBPRESS_VECTOR_BYTES>::type>(s, partial, slice, out, 0);
#if EMBPRESS_VECTOR_BYTES >= 32
  j = last_forward_columns<T, typename VectorOf<T, EMBPRESS_VECTOR_BYTES / 2>::type>(s, partial, slice, out, j);
#endif
#if EMBPRESS_VECTOR_BYTES >= 64
  j = last_forward_columns<T, typename VectorOf<T, EMBPRESS_VECTOR_BYTES / 4>::type>(s, partial, slice, out, j);
#endif
  last_forward_columns<T, typename VectorOf<T, sizeof(T)>::type>(s, partial, slice, out, j);
}

// Q columns of the slice: d_partial (+)= d_out x slice^T and d_slice^T = d_out^T x partial, both along the rank
template <class T, int Q>
EMBPRESS_INLINE void last_backward_columns(const LastShape& s, const T* d_out, const T* partial, const T* slice_t,
                                           T* d_partial, T* d_slice_t, bool first) {
  typedef typename VectorOf<T, EMBPRESS_VECTOR_BYTES>::type V;
  constexpr int lanes = EMBPRESS_VECTOR_BYTES / sizeof(T);
  for (int64_t r = 0; r < s.padded; r += lanes) {
    V g[Q], sum[Q];
    for (int j = 0; j < Q; ++j) {
      g[j] = load<V>(slice_t + j * s.padded + r);
      sum[j] = V{};
    }
    RowWalk walk{s};
    for (int64_t i = 0; i < s.rows; ++i) {
      const int64_t at = walk.next() + r;
      const V p = load<V>(partial + at);
      V d = first ? V{} : load<V>(d_partial + at);
      for (int j = 0; j < Q; ++j) {
        const T left = d_out[i * s.q + j];
        d += g[j] * left;
        sum[j] += p * left;
      }
      store(d_partial + at, d);
    }
    for (int j = 0; j < Q; ++j) store(d_slice_t + j * s.padded + r, sum[j]);
  }
}

// d_partial (rows, rank) and d_slice_t (q, padded); slice_t (q, padded) is the slice transposed, zeros behind the rank
template <class T>
static void last_backward(const LastShape& s, const T* d_out, const T* partial, const T* slice_t, T* d_partial,
                          T* d_slice_t) {
  int64_t j = 0;
#define EMBPRESS_COLUMNS(Q)                                                                                       \
  for (; s.q - j >= Q; j += Q)                                                                                    \
  last_backward_columns<T, Q>(s, d_out + j, partial, slice_t + j * s.padded, d_partial, d_slice_t + j * s.padded, \
                              j == 0)
  EMBPRESS_COLUMNS(4);
  EMBPRESS_COLUMNS(2);
  EMBPRESS_COLUMNS(1);
#undef EMBPRESS_COLUMNS
}

// to (n) = the sum of rows of `rows` elements' width `stride`, those in `order`, one after another
template <class T>
static void sum_rows(int64_t n, int64_t count, const int32_t* order, const T* rows, int64_t stride, T* to) {
  typedef typename VectorOf<T, EMBPRESS_VECTOR_BYTES>::type V;
  constexpr int64_t lanes = EMBPRESS_VECTOR_BYTES / sizeof(T), width = 8;
  int64_t j = 0;
  for (; n - j >= width * lanes; j += width * lanes) {
    V sum[width] = {};
    for (int64_t i = 0; i < count; ++i) {
      // rows lie anywhere, so that the processor does not see the next one coming
      if (i + 3 < count)
        for (int v = 0; v < width; ++v) __builtin_prefetch(rows + order[i + 3] * stride + j + v * lanes);
      for (int v = 0; v < width; ++v) sum[v] += load<V>(rows + order[i] * stride + j + v * lanes);
    }
    for (int v = 0; v < width; ++v) store(to + j + v * lanes, sum[v]);
  }
  for (; n - j >= lanes; j += lanes) {
    V sum = {};
    for (int64_t i = 0; i < count; ++i) sum += load<V>(rows + order[i] * stride + j);
    store(to + j, sum);
  }
  for (; j < n; ++j) {
    T sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += rows[order[i] * stride + j];
    to[j] = sum;
  }
}

// y = scale * x
template <class T>
static void scale(int64_t n, T by, const T* x, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = by * x[i];
}

// y += scale * x
template <class T>
static void add_scaled(int64_t n, T scale, const T* x, T* y) {
  typedef typename VectorOf<T, EMBPRESS_VECTOR_BYTES>::type V;
  constexpr int64_t lanes = EMBPRESS_VECTOR_BYTES / sizeof(T);
  int64_t i = 0;
  for (; n - i >= lanes; i += lanes) store(y + i, load<V>(y + i) + load<V>(x + i) * scale);
  for (; i < n; ++i) y[i] += scale * x[i];
}

template <class T>
static T dot(int64_t n, const T* x, const T* y) {
  typedef typename VectorOf<T, EMBPRESS_VECTOR_BYTES>::type V;
  constexpr int lanes = EMBPRESS_VECTOR_BYTES / sizeof(T);
  V sums = {};
  int64_t i = 0;
  for (; n - i >= lanes; i += lanes) sums += load<V>(x + i) * load<V>(y + i);
  T sum = 0;
  for (int l = 0; l < lanes; ++l) sum += sums[l];
  for (; i < n; ++i) sum += x[i] * y[i];
  return sum;
}
