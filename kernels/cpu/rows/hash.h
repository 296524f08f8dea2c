// Hashes of a block of ids, many at a time; included once for each instruction set, see simd/body.h.
//
// All of it is multiplications of 32-bit numbers and minima, which every set has for vectors; no division.

// (x a + b) mod P for any 32-bit x, and a, b below P; always below P.
EMBPRESS_INLINE uint32_t hash_in_lane(uint32_t x, uint32_t a, uint32_t b) {
  // of x and x - P, which is huge where x is below P, the lesser: the product below stays under 2^62
  x = x < x - kPrime ? x : x - kPrime;
  const uint64_t v = static_cast<uint64_t>(x) * a + b;
  // The quotient from the upper 32 bits, by ⌊2^62 / P⌋: at most 0.8 too small, before 3/4 are added and the fraction is
  // dropped. The remainder then lies between -P and 1.1 P, of which 32 bits tell all.
  constexpr uint32_t inverse = static_cast<uint32_t>((uint64_t{1} << 62) / kPrime);
  constexpr uint64_t three_quarters = uint64_t{3} << 30;
  const uint64_t upper = static_cast<uint32_t>(v >> 30);
  const uint32_t q = static_cast<uint32_t>((upper * inverse + three_quarters) >> 32);
  uint32_t rest = static_cast<uint32_t>(v) - q * kPrime;
  rest = rest < rest + kPrime ? rest : rest + kPrime;
  return rest < rest - kPrime ? rest : rest - kPrime;
}

// One of `part_hash`'s rounds leaves this to the next.
EMBPRESS_INLINE uint32_t folded_hash(uint32_t x) { return x ^ (x >> 15); }

// h mod `by`, for h below 2^31.
EMBPRESS_INLINE uint32_t remainder_in_lane(uint32_t h, const Remainder31& by) {
  const uint32_t q = static_cast<uint32_t>(static_cast<uint64_t>(h) * by.magic >> by.shift);
  const uint32_t rest = h - q * by.by;
  return rest < rest - by.by ? rest : rest - by.by;
}

// out[i] = (x[i] a + b) mod P; X is uint32_t or a 64-bit integer, of which 32 bits are taken; a and b are below P (see
// `below_prime`). What is written lies below P, whatever x holds. `out` is not x.
template <class X>
EMBPRESS_INLINE void linear_hashes(int64_t count, const X* __restrict x, uint32_t a, uint32_t b,
                                   uint32_t* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = hash_in_lane(static_cast<uint32_t>(x[i]), a, b);
}

// out[i] = the two rounds of `part_hash` in kernels/reference/hashing.py with four coefficients below P; below 2^31.
template <class X>
EMBPRESS_INLINE void part_hashes(int64_t count, const X* __restrict x, const uint32_t* coefficients,
                                 uint32_t* __restrict out) {
  const uint32_t a = coefficients[0], b = coefficients[1], c = coefficients[2], d = coefficients[3];
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t once = hash_in_lane(static_cast<uint32_t>(x[i]), a, b);
    out[i] = folded_hash(hash_in_lane(folded_hash(once), c, d));
  }
}

// h[i] becomes h[i] mod `by`, for h below 2^31.
EMBPRESS_INLINE void remainders(int64_t count, const Remainder31& by, uint32_t* h) {
  const Remainder31 own = by;
  for (int64_t i = 0; i < count; ++i) h[i] = remainder_in_lane(h[i], own);
}
