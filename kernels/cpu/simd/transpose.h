// Rows and columns of a row-major matrix swapped, in square tiles that stay in registers.

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define EMBPRESS_TILES_IN_REGISTERS 1
#endif
#endif

#ifdef EMBPRESS_TILES_IN_REGISTERS
// of each block of 2 * STEP lanes: the first halves of `a` and `b`, or the second halves
template <int STEP, class V, int... LANE>
EMBPRESS_INLINE V first_halves(V a, V b, std::integer_sequence<int, LANE...>) {
  return __builtin_shufflevector(a, b, ((LANE & STEP) ? int(sizeof...(LANE)) + LANE - STEP : LANE)...);
}

template <int STEP, class V, int... LANE>
EMBPRESS_INLINE V second_halves(V a, V b, std::integer_sequence<int, LANE...>) {
  return __builtin_shufflevector(a, b, ((LANE & STEP) ? int(sizeof...(LANE)) + LANE : LANE + STEP)...);
}

// after the rounds of steps lanes / 2, lanes / 4, … 1 lane l of row i has become lane i of row l
template <int STEP, int LANES, class V>
EMBPRESS_INLINE void transpose_rounds(V* rows) {
  if constexpr (STEP >= 1) {
    constexpr auto lanes = std::make_integer_sequence<int, LANES>{};
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
      if (i & STEP) continue;
      const V a = rows[i], b = rows[i + STEP];
      rows[i] = first_halves<STEP>(a, b, lanes);
      rows[i + STEP] = second_halves<STEP>(a, b, lanes);
    }
    transpose_rounds<STEP / 2, LANES>(rows);
  }
}
#endif

#ifdef EMBPRESS_TILES_IN_REGISTERS
// Tiles of LANES x LANES: all whole ones between columns [begin, columns); returns where the last of them ends.
template <int LANES, class T>
EMBPRESS_INLINE int64_t transpose_tiles(int64_t rows, int64_t begin, int64_t columns, const T* from, int64_t ldf, T* to,
                                        int64_t ldt) {
  typedef typename VectorOf<T, LANES * sizeof(T)>::type V;
  int64_t j = begin;
  for (; columns - j >= LANES; j += LANES) {
    int64_t i = 0;
    for (; rows - i >= LANES; i += LANES) {
      V tile[LANES];
      for (int l = 0; l < LANES; ++l) tile[l] = load<V>(from + (i + l) * ldf + j);
      transpose_rounds<LANES / 2, LANES>(tile);
      for (int l = 0; l < LANES; ++l) store(to + (j + l) * ldt + i, tile[l]);
    }
    for (; i < rows; ++i)
      for (int l = 0; l < LANES; ++l) to[(j + l) * ldt + i] = from[i * ldf + j + l];
  }
  return j;
}
#endif

// to[j * ldt + i] = from[i * ldf + j] for i < rows, j < columns
template <class T>
static void transpose(int64_t rows, int64_t columns, const T* from, int64_t ldf, T* to, int64_t ldt) {
  int64_t j = 0;
#ifdef EMBPRESS_TILES_IN_REGISTERS
  constexpr int lanes = EMBPRESS_VECTOR_BYTES / sizeof(T);
  if (rows >= lanes) j = transpose_tiles<lanes>(rows, j, columns, from, ldf, to, ldt);
  j = transpose_tiles<4>(rows, j, columns, from, ldf, to, ldt);  // slices of the last core are about this narrow
#endif
  for (; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) to[j * ldt + i] = from[i * ldf + j];
}
