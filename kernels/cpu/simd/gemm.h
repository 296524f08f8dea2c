// C (M x N) = or += A (M x K) B (K x N), for the short and narrow products of a tensor train.
//
// B and C are row-major and N is a multiple of the vector; A is read element by element at `a[i * row + k * column]`,
// so that A and its transpose serve alike. A tile of C stays in registers over the whole of K.

template <class T, int ROWS, int VECTORS>
EMBPRESS_INLINE void gemm_tile(int64_t depth, const T* a, int64_t row, int64_t column, const T* b, int64_t ldb, T* c,
                               int64_t ldc, bool accumulate) {
  typedef typename VectorOf<T, EMBPRESS_VECTOR_BYTES>::type V;
  constexpr int64_t lanes = EMBPRESS_VECTOR_BYTES / sizeof(T);
  V sum[ROWS][VECTORS];
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < VECTORS; ++j) sum[i][j] = accumulate ? load<V>(c + i * ldc + j * lanes) : V{};
  for (int64_t k = 0; k < depth; ++k, a += column, b += ldb) {
    V right[VECTORS];
    for (int j = 0; j < VECTORS; ++j) right[j] = load<V>(b + j * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const T left = a[i * row];
#pragma GCC unroll 4
      for (int j = 0; j < VECTORS; ++j) sum[i][j] += right[j] * left;
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < VECTORS; ++j) store(c + i * ldc + j * lanes, sum[i][j]);
}

template <class T, int VECTORS>
EMBPRESS_INLINE void gemm_panel(int64_t m, int64_t depth, const T* a, int64_t row, int64_t column, const T* b,
                                int64_t ldb, T* c, int64_t ldc, bool accumulate) {
  int64_t i = 0;
#define EMBPRESS_TILES(ROWS)       \
  for (; m - i >= ROWS; i += ROWS) \
  gemm_tile<T, ROWS, VECTORS>(depth, a + i * row, row, column, b, ldb, c + i * ldc, ldc, accumulate)
#if EMBPRESS_REGISTERS >= 32
  EMBPRESS_TILES(12);
  EMBPRESS_TILES(8);
#else
  EMBPRESS_TILES(6);
#endif
  EMBPRESS_TILES(4);
  EMBPRESS_TILES(2);
  EMBPRESS_TILES(1);
#undef EMBPRESS_TILES
}

template <class T>
static void gemm(int64_t m, int64_t n, int64_t depth, const T* a, int64_t row, int64_t column, const T* b, int64_t ldb,
                 T* c, int64_t ldc, bool accumulate) {
  constexpr int64_t lanes = EMBPRESS_VECTOR_BYTES / sizeof(T);
  int64_t j = 0;
  for (; n - j >= 2 * lanes; j += 2 * lanes)
    gemm_panel<T, 2>(m, depth, a, row, column, b + j, ldb, c + j, ldc, accumulate);
  if (j < n) gemm_panel<T, 1>(m, depth, a, row, column, b + j, ldb, c + j, ldc, accumulate);
}
