// What every processor runs: vectors of 16 bytes, which the compiler maps to SSE2 or NEON, or to plain code.
#include "kernels.h"

#define EMBPRESS_VECTOR_BYTES 16
#define EMBPRESS_REGISTERS 16
namespace embpress::plain {
#include "body.h"
extern const Kernels<float> floats;
extern const Kernels<double> doubles;
const Kernels<float> floats = table<float>;
const Kernels<double> doubles = table<double>;
extern const Copies moves;
const Copies moves = copies_table;
}  // namespace embpress::plain
