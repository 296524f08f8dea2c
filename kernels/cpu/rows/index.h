// Which rows digits and hashes of ids are, for many ids at a time; included once for each instruction set, see simd/body.h.
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

// to[i] = first + part_hash(id[i]) mod size, see hash.h; `room` is for count numbers.
static void hash_rows(int64_t count, const int64_t* id, const uint32_t* coefficients, const Remainder31& size,
                      int64_t first, uint32_t* room, int64_t* to) {
  part_hashes(count, id, coefficients, room);
  remainders(count, size, room);
  for (int64_t i = 0; i < count; ++i) to[i] = first + room[i];
}
