// Vectors of `BYTES` bytes with the compiler's own operators: one source for AVX-512, AVX2 and plain code.
//
// This header is included inside a namespace of its own for each instruction set, after the pragma that selects it, so
// that nothing compiled for one set can be linked in place of another's.

template <class T, int BYTES>
struct VectorOf {
  typedef T type __attribute__((vector_size(BYTES)));
  // the same, at any address
  typedef T unaligned __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
};

#define EMBPRESS_INLINE static inline __attribute__((always_inline))
#define EMBPRESS_INLINE_MEMBER inline __attribute__((always_inline))

template <class V, class T>
EMBPRESS_INLINE V load(const T* from) {
  return *reinterpret_cast<const typename VectorOf<T, sizeof(V)>::unaligned*>(from);
}

template <class V, class T>
EMBPRESS_INLINE void store(T* to, V value) {
  *reinterpret_cast<typename VectorOf<T, sizeof(V)>::unaligned*>(to) = value;
}
