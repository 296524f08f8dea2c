// Which rows ids take, for many ids at a time; included once for each instruction set, see simd/body.h.
//
// Divisions are products with the inverse as doubles, whose quotient is at most one too large or too small: plain loops
// that the compiler makes vectors of where there are conversions between 64-bit integers and doubles.

// The remainder of v >= 0 by `by`, for quotients below 2^52.
EMBPRESS_INLINE int64_t remainder_of(int64_t v, int64_t by, double inverse) {
  int64_t rest = v - static_cast<int64_t>(static_cast<double>(v) * inverse) * by;
  rest += rest < 0 ? by : 0;
  return rest - (rest >= by ? by : 0);
}

EMBPRESS_INLINE int64_t quotient_of(int64_t v, int64_t by, double inverse) {
  const int64_t found = static_cast<int64_t>(static_cast<double>(v) * inverse), rest = v - found * by;
  return found + (rest >= by ? 1 : 0) - (rest < 0 ? 1 : 0);
}

// to[i] = first + id[i] / stride mod size; ids below 2^52.
static void digit_rows(int64_t count, const int64_t* id, int64_t stride, int64_t size, int64_t first, int64_t* to) {
  const double by_stride = 1.0 / static_cast<double>(stride), by_size = 1.0 / static_cast<double>(size);
  if (stride == 1)
    for (int64_t i = 0; i < count; ++i) to[i] = first + remainder_of(id[i], size, by_size);
  else
    for (int64_t i = 0; i < count; ++i)
      to[i] = first + remainder_of(quotient_of(id[i], stride, by_stride), size, by_size);
}

// to[i] = first + part_hash(id[i]) mod size, see common/divide.h; ids below 2^31.
static void hash_rows(int64_t count, const int64_t* id, const int64_t* coefficients, int64_t size, int64_t first,
                      int64_t* to) {
  constexpr int64_t prime = kPrime;
  constexpr double inverse = 1.0 / prime;
  const int64_t a = coefficients[0], b = coefficients[1], c = coefficients[2], d = coefficients[3];
  const double by_size = 1.0 / static_cast<double>(size);
  for (int64_t i = 0; i < count; ++i) {
    int64_t x = remainder_of(id[i] * a + b, prime, inverse);
    x = remainder_of((x ^ (x >> 15)) * c + d, prime, inverse);
    to[i] = first + remainder_of(x ^ (x >> 15), size, by_size);
  }
}

// starts[j * count + i] = where chunk j of row id[i] + offset begins in ROBE's array.
static void chunk_starts(const RobeShape& s, int64_t count, const int64_t* id, int64_t offset, int64_t* starts) {
  constexpr int64_t prime = kPrime;
  constexpr double inverse = 1.0 / prime;
  const int64_t r1 = s.r1, r3 = s.r3, slots = s.slots;
  const double by_slots = 1.0 / static_cast<double>(slots);
  for (int64_t i = 0; i < count; ++i) starts[i] = remainder_of((id[i] + offset) * r3 + r1, prime, inverse);
  for (int64_t j = s.chunks - 1; j >= 0; --j) {
    const int64_t step = s.step[j];
    for (int64_t i = 0; i < count; ++i) {
      int64_t h = starts[i] + step;
      h -= h >= prime ? prime : 0;
      starts[j * count + i] = remainder_of(h, slots, by_slots);
    }
  }
}
