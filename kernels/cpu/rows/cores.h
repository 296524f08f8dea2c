// Rows as products of slices of cores, one after another; included once for each instruction set, see simd/body.h.

// out (m, n) = left (m, depth) slice (depth, n), columns [j, j + L) of up to four rows at a time.
template <int L, int ROWS>
EMBPRESS_INLINE void core_tile(int64_t depth, int64_t n, const float* left, const float* slice, float* out) {
  typedef typename Lanes<L>::floats V;
  V sum[ROWS] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const V right = load<V>(slice + k * n);
    for (int i = 0; i < ROWS; ++i) sum[i] += right * left[i * depth + k];
  }
  for (int i = 0; i < ROWS; ++i) store(out + i * n, sum[i]);
}

template <int L>
EMBPRESS_INLINE void core_panel(int64_t m, int64_t depth, int64_t n, const float* left, const float* slice, float* out) {
  int64_t i = 0;
  for (; m - i >= 4; i += 4) core_tile<L, 4>(depth, n, left + i * depth, slice, out + i * n);
  if (m - i >= 2) {
    core_tile<L, 2>(depth, n, left + i * depth, slice, out + i * n);
    i += 2;
  }
  if (m - i >= 1) core_tile<L, 1>(depth, n, left + i * depth, slice, out + i * n);
}

EMBPRESS_INLINE void core_product(int64_t m, int64_t depth, int64_t n, const float* left, const float* slice,
                                  float* out) {
  int64_t j = 0;
#if EMBPRESS_VECTOR_BYTES >= 64
  for (; n - j >= 16; j += 16) core_panel<16>(m, depth, n, left, slice + j, out + j);
#endif
#if EMBPRESS_VECTOR_BYTES >= 32
  for (; n - j >= 8; j += 8) core_panel<8>(m, depth, n, left, slice + j, out + j);
#endif
  for (; n - j >= 4; j += 4) core_panel<4>(m, depth, n, left, slice + j, out + j);
  for (; j < n; ++j)
    for (int64_t i = 0; i < m; ++i) {
      float sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += left[i * depth + k] * slice[k * n + j];
      out[i * n + j] = sum;
    }
}

// Rows of ids x go to `to`. Room: digits (cores, count), products 2 * `widest`, slices (cores, `largest`).
static void take_cores(const CoresView& v, int64_t count, const int64_t* x, float* const* to, int64_t* digits,
                       float* products, float* slices) {
  const int64_t cores = v.count;
  int64_t* rest = digits;  // what the digits of the cores before are made of; the first core's in the end
  for (int64_t i = 0; i < count; ++i) rest[i] = x[i];
  for (int64_t k = cores - 1; k > 0; --k) {
    const int64_t p = v.core[k].digits;
    const double inverse = 1.0 / static_cast<double>(p);
    int64_t* digit = digits + k * count;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t next = quotient_of(rest[i], p, inverse);
      digit[i] = rest[i] - next * p;
      rest[i] = next;
    }
  }
  int64_t decoded[kMostCores] = {-1, -1, -1, -1};
  for (int64_t i = 0; i < count; ++i) {
    const float* left = nullptr;
    int64_t m = 1, depth = 1;
    for (int64_t k = 0; k < cores; ++k) {
      const CoreView& core = v.core[k];
      const int64_t digit = digits[k * count + i], first = core.first + digit * core.each;
      const float* slice;
      if (core.store.form == Form::floats) {
        slice = reinterpret_cast<const float*>(core.store.memory + first * core.store.row_bytes);
      } else {
        float* room = slices + k * v.largest;
        if (decoded[k] != digit) {
          for (int64_t r = 0; r < core.each; ++r) {
            const int64_t row = first + r;
            float* at = room + r * core.store.width;
            take_rows(core.store, 1, &row, &at, 0, Into::set, nullptr);
          }
          decoded[k] = digit;
        }
        slice = room;
      }
      const int64_t n = core.columns * core.rank;
      if (k == 0) {
        left = slice;
      } else {
        float* out = k == cores - 1 ? to[i] : products + (k & 1) * v.widest;
        core_product(m, depth, n, left, slice, out);
        left = out;
      }
      m *= core.columns;
      depth = core.rank;
    }
  }
}
