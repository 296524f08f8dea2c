// Inner loops over rows put together from parts; included once for each instruction set, see simd/body.h.

// Rows `index` (count, parts) of the weight, combined.
template <class T>
static void combine_parts(const PartsShape& s, int64_t count, const int64_t* index, const T* weight, T* out) {
  const int64_t width = s.width, parts = s.parts;
  constexpr int64_t ahead = 8;
  for (int64_t i = 0; i < count; ++i, index += parts, out += s.dim()) {
    if (s.far && i + ahead < count)
      for (int64_t j = 0; j < parts; ++j)
        for (int64_t b = 0; b < width; b += 64 / static_cast<int64_t>(sizeof(T)))
          __builtin_prefetch(weight + index[ahead * parts + j] * width + b);
    if (s.combine == Combine::concat || parts == 1) {
      for (int64_t j = 0; j < parts; ++j)
        __builtin_memcpy(out + j * width, weight + index[j] * width, width * sizeof(T));
      continue;
    }
    const T *a = weight + index[0] * width, *b = weight + index[1] * width;
    const bool sum = s.combine == Combine::add;
    if (sum)
      for (int64_t c = 0; c < width; ++c) out[c] = a[c] + b[c];
    else
      for (int64_t c = 0; c < width; ++c) out[c] = a[c] * b[c];
    for (int64_t j = 2; j < parts; ++j) {
      b = weight + index[j] * width;
      if (sum)
        for (int64_t c = 0; c < width; ++c) out[c] += b[c];
      else
        for (int64_t c = 0; c < width; ++c) out[c] *= b[c];
    }
  }
}

// sum[row] += the gradient of the weight's rows, for the rows that are owned; `room` is for one row.
template <class T>
static void scatter_parts(const PartsShape& s, int64_t count, const int64_t* index, const T* grad, const T* weight,
                          const Owned& owned, T* sum, T* room) {
  const int64_t width = s.width, parts = s.parts;
  for (int64_t i = 0; i < count; ++i, index += parts, grad += s.dim())
    for (int64_t j = 0; j < parts; ++j) {
      if (!owned.has(index[j])) continue;
      T* to = sum + index[j] * width;
      if (s.combine != Combine::mult) {
        const T* flow = s.combine == Combine::concat ? grad + j * width : grad;
        for (int64_t c = 0; c < width; ++c) to[c] += flow[c];
      } else if (parts == 2) {
        const T* other = weight + index[1 - j] * width;
        for (int64_t c = 0; c < width; ++c) to[c] += grad[c] * other[c];
      } else {
        // without a division, so that zeros are right
        __builtin_memcpy(room, grad, width * sizeof(T));
        for (int64_t k = 0; k < parts; ++k) {
          if (k == j) continue;
          const T* other = weight + index[k] * width;
          for (int64_t c = 0; c < width; ++c) room[c] *= other[c];
        }
        for (int64_t c = 0; c < width; ++c) to[c] += room[c];
      }
    }
}
