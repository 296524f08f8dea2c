// Inner loops of ROBE's lookup and gradient; included once for each instruction set, see simd/body.h.

// Where the chunks of row x start. Remainders by way of doubles, which hold 31 bits exactly: vectors of them, too.
EMBPRESS_INLINE void robe_starts(const RobeShape& s, int64_t x, uint32_t* start) {
  const uint32_t first = linear_hash(x, s.r3, s.r1), slots = s.slots;
  const double inverse = 1.0 / slots;
  for (int64_t j = 0; j < s.chunks; ++j) {
    uint32_t h = first + s.step[j];
    h -= h >= kPrime ? kPrime : 0;
    // one too many or too few
    uint32_t rest = h - static_cast<uint32_t>(static_cast<int32_t>(static_cast<int32_t>(h) * inverse)) * slots;
    rest += static_cast<int32_t>(rest) < 0 ? slots : 0;
    rest -= rest >= slots ? slots : 0;
    start[j] = rest;
  }
}

// Changes the sign of elements of row x: U are their bits.
template <class U>
EMBPRESS_INLINE void robe_signs(const RobeShape& s, int64_t x, const U* from, U* to) {
  const uint32_t first = linear_hash(x, s.s3, s.s1);
  for (int64_t i = 0; i < s.dim; ++i) {
    uint32_t h = first + s.sign_step[i];
    h -= h >= kPrime ? kPrime : 0;
    to[i] = from[i] ^ static_cast<U>(static_cast<U>(h & 1) << (8 * sizeof(U) - 1));
  }
}

template <int BYTES, class U>
EMBPRESS_INLINE void robe_copy(const RobeShape& s, const uint32_t* start, const U* memory, U* to) {
  constexpr int64_t z = BYTES / sizeof(U);
  for (int64_t j = 0; j < s.chunks; ++j) __builtin_memcpy(to + j * z, memory + start[j], BYTES);
}

// Rows x (count) of the array of elements U, one after another; `starts` is room for count * chunks.
template <class U>
static void robe_forward(const RobeShape& s, int64_t count, const int64_t* x, const U* memory, U* out,
                         uint32_t* starts) {
  const int64_t z = s.z, whole = s.dim / z;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t* start = starts + i * s.chunks;
    robe_starts(s, x[i], start);
    if (!s.far) continue;
    for (int64_t j = 0; j < s.chunks; ++j)
      for (int64_t b = 0; b < z; b += 64 / static_cast<int64_t>(sizeof(U))) __builtin_prefetch(memory + start[j] + b);
  }
  for (int64_t i = 0; i < count; ++i, out += s.dim) {
    const uint32_t* start = starts + i * s.chunks;
    if (z == 1) {
      for (int64_t j = 0; j < s.dim; ++j) out[j] = memory[start[j]];
    } else if (s.chunks * z == s.dim && z * sizeof(U) == 128) {
      robe_copy<128>(s, start, memory, out);
    } else if (s.chunks * z == s.dim && z * sizeof(U) == 64) {
      robe_copy<64>(s, start, memory, out);
    } else if (s.chunks * z == s.dim && z * sizeof(U) == 32) {
      robe_copy<32>(s, start, memory, out);
    } else if (s.chunks * z == s.dim && z * sizeof(U) == 16) {
      robe_copy<16>(s, start, memory, out);
    } else {
      for (int64_t j = 0; j < s.chunks; ++j)
        __builtin_memcpy(out + j * z, memory + start[j], (j < whole ? z : s.dim - whole * z) * sizeof(U));
    }
    if (s.sign_step) robe_signs(s, x[i], out, out);
  }
}

// sum[h] += gradient of rows x (count), for elements h from `begin` to `end`; `room` is for chunks and a row.
template <class T, class U>
static void robe_backward(const RobeShape& s, int64_t count, const int64_t* x, const T* grad, int64_t begin,
                          int64_t end, T* sum, uint32_t* starts, T* row) {
  for (int64_t i = 0; i < count; ++i, grad += s.dim) {
    robe_starts(s, x[i], starts);
    const T* flow = grad;
    if (s.sign_step) {
      robe_signs(s, x[i], reinterpret_cast<const U*>(grad), reinterpret_cast<U*>(row));
      flow = row;
    }
    for (int64_t j = 0; j < s.chunks; ++j, flow += s.z) {
      const int64_t start = starts[j], size = j + 1 < s.chunks ? s.z : s.dim - j * s.z;
      const int64_t low = begin > start ? begin - start : 0, high = end < start + size ? end - start : size;
      T* to = sum + start;
      if (low == 0 && high == s.z && s.z % 4 == 0) {
        for (int64_t e = 0; e < s.z; e += 4)
          for (int64_t f = e; f < e + 4; ++f) to[f] += flow[f];
        continue;
      }
      for (int64_t e = low; e < high; ++e) to[e] += flow[e];
    }
  }
}
