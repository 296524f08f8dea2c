// One row's step of an optimizer; included once for each instruction set, see simd/body.h.

// The gradients at `order` (count) summed into `sum`, then one row of the parameter changed by it. `total` is the
// accumulator: width numbers, one, or none.
template <class T>
static void update_row(const UpdateShape& s, int64_t count, const int32_t* order, const T* grads, T* total, T* row,
                       T* sum) {
  const int64_t width = s.width;
  const T rate = static_cast<T>(s.learning_rate), eps = static_cast<T>(s.eps);
  const T* g = grads + order[0] * width;
  if (count > 1) {
    for (int64_t c = 0; c < width; ++c) sum[c] = g[c];
    for (int64_t i = 1; i < count; ++i) {
      const T* next = grads + order[i] * width;
      for (int64_t c = 0; c < width; ++c) sum[c] += next[c];
    }
    g = sum;
  }
  if (!total) {
    for (int64_t c = 0; c < width; ++c) row[c] -= rate * g[c];
  } else if (!s.rowwise) {
    for (int64_t c = 0; c < width; ++c) {
      total[c] += g[c] * g[c];
      row[c] -= rate * (g[c] / (root_of(total[c]) + eps));
    }
  } else {
    T squares = 0;
    for (int64_t c = 0; c < width; ++c) squares += g[c] * g[c];
    *total += squares / static_cast<T>(width);
    const T root = root_of(*total) + eps;
    for (int64_t c = 0; c < width; ++c) row[c] -= rate * (g[c] / root);
  }
}
