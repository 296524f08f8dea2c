#include "kernels.h"

#include <cstdlib>
#include <cstring>

namespace embpress {

#define EMBPRESS_DECLARE(NAME)                                 \
  namespace NAME {                                             \
  extern const Kernels<float> floats;                          \
  extern const Kernels<double> doubles;                        \
  extern const Copies moves;                                   \
  inline const Kernels<float>& of(float) { return floats; }    \
  inline const Kernels<double>& of(double) { return doubles; } \
  }
EMBPRESS_DECLARE(plain)
#if defined(__x86_64__)
EMBPRESS_DECLARE(avx2)
EMBPRESS_DECLARE(avx512)
#endif

static Isa detect() {
#if defined(__x86_64__)
  const char* wish = std::getenv("EMBPRESS_ISA");
  if (wish && !std::strcmp(wish, "plain")) return Isa::plain;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && !(wish && !std::strcmp(wish, "avx2")))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::plain;
}

Isa isa() {
  static const Isa found = detect();
  return found;
}

template <class T>
const Kernels<T>& best(int64_t width) {
  const auto fits = [width](const Kernels<T>& k) {
    const int64_t padded = (width + k.lanes - 1) / k.lanes * k.lanes;
    return 4 * (padded - width) <= padded;
  };
#if defined(__x86_64__)
  if (isa() == Isa::avx512 && fits(avx512::of(T{}))) return avx512::of(T{});
  if (isa() != Isa::plain && fits(avx2::of(T{}))) return avx2::of(T{});
  if (isa() != Isa::plain && width > plain::of(T{}).lanes) return avx2::of(T{});
#endif
  (void)fits;
  return plain::of(T{});
}

const Copies& copies() {
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return avx512::moves;
  if (isa() == Isa::avx2) return avx2::moves;
#endif
  return plain::moves;
}

template const Kernels<float>& best<float>(int64_t);
template const Kernels<double>& best<double>(int64_t);

}  // namespace embpress
