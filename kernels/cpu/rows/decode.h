// Codes of a few bits as floats; included once for each instruction set, see simd/body.h.

// `count` codes from the bit `first` of `codes` on, a byte each; the first code of a byte lies in its lowest bits.
template <int BITS>
EMBPRESS_INLINE void unpack_codes(const uint8_t* codes, int64_t first, int64_t count, uint8_t* to) {
  constexpr int64_t a_byte = 8 / BITS;
  constexpr uint8_t mask = (1 << BITS) - 1;
  const uint8_t* from = codes + first / 8;
  int64_t i = 0;
  if (first % 8 == 0) {
    for (; count - i >= a_byte; i += a_byte, ++from)
#pragma GCC unroll 8
      for (int64_t j = 0; j < a_byte; ++j) to[i + j] = *from >> j * BITS & mask;
  } else {
    for (int64_t j = first % 8 / BITS; i < count && j < a_byte; ++j) to[i++] = *from >> j * BITS & mask;
    ++from;
  }
  for (; i < count; ++from)
    for (int64_t j = 0; i < count && j < a_byte; ++j) to[i++] = *from >> j * BITS & mask;
}

// One row: lo and step are `width` numbers, or one each where `common`. `room` is for width bytes.
static void decode_row(int bits, int64_t width, const uint8_t* codes, int64_t first, const float* lo,
                       const float* step, bool common, uint8_t* room, float* out) {
  const uint8_t* code = room;
  if (bits == 8)
    code = codes + first / 8;
  else if (bits == 4)
    unpack_codes<4>(codes, first, width, room);
  else if (bits == 2)
    unpack_codes<2>(codes, first, width, room);
  else
    unpack_codes<1>(codes, first, width, room);
  if (common) {
    const float low = *lo, by = *step;
    for (int64_t c = 0; c < width; ++c) out[c] = low + by * static_cast<float>(code[c]);
  } else {
    for (int64_t c = 0; c < width; ++c) out[c] = lo[c] + step[c] * static_cast<float>(code[c]);
  }
}
