// Division by numbers that are known before the loop, and the hashes that take remainders by them.
//
// Nothing of the standard library but sizes of integers: the code of each instruction set includes this.
#pragma once

#include <cstdint>

namespace embpress {

// ROBE's prime, see kernels/reference/hashing.py.
constexpr uint32_t kPrime = 2038074743u;

// Quotients and remainders of 32-bit numbers by a multiplication (Lemire, Kaser and Kurz 2019).
struct Divisor {
  uint64_t magic = 0;  // ⌈2^64 / by⌉
  uint32_t by = 1;

  Divisor() = default;
  explicit Divisor(uint32_t by) : magic(UINT64_MAX / by + 1), by(by) {}

  uint32_t quotient(uint32_t a) const {
    return by == 1 ? a : static_cast<uint32_t>((static_cast<unsigned __int128>(magic) * a) >> 64);
  }
  uint32_t remainder(uint32_t a) const {
    return static_cast<uint32_t>((static_cast<unsigned __int128>(magic * a) * by) >> 64);
  }
};

// Remainders of numbers below 2^31, as vectors take them, see rows/hash.h: a quotient that is at most one too small.
struct Remainder31 {
  uint32_t magic = 0;  // ⌊2^shift / by⌋, or 0 where every number is below `by`
  uint32_t by = UINT32_MAX;
  int32_t shift = 63;

  Remainder31() = default;
  explicit Remainder31(int64_t by) {
    if (by > INT32_MAX) return;
    this->by = static_cast<uint32_t>(by);
    shift = 31 + (31 - __builtin_clz(this->by));
    magic = static_cast<uint32_t>((uint64_t{1} << shift) / this->by);
  }
};

// A coefficient as hashes of blocks take it.
inline uint32_t below_prime(int64_t coefficient) {
  const int64_t rest = coefficient % int64_t{kPrime};
  return static_cast<uint32_t>(rest < 0 ? rest + kPrime : rest);
}

// (x a + b) mod P; x and the coefficients below 2^31.
inline uint32_t linear_hash(uint64_t x, uint64_t a, uint64_t b) { return static_cast<uint32_t>((x * a + b) % kPrime); }

// Two rounds, see `part_hash` in kernels/reference/hashing.py.
inline uint32_t part_hash(uint64_t id, const int64_t* coefficients, int64_t stride) {
  uint32_t x = linear_hash(id, coefficients[0], coefficients[stride]);
  x = linear_hash(x ^ (x >> 15), coefficients[2 * stride], coefficients[3 * stride]);
  return x ^ (x >> 15);
}

}  // namespace embpress
