// What the CPU library registers beside its kernels, for the library of emulated device code.
#include <torch/csrc/stable/library.h>

#include <cstdint>

namespace {
int64_t none() { return 0; }
}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(embpress, m) {
  m.def("emulates_cuda() -> int");  // that it is there tells tests what they run
  m.def("cpu_isa() -> int");
  m.def("scratch_bytes() -> int");
  m.def("release_scratch() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CompositeExplicitAutograd, m) {
  m.impl("emulates_cuda", TORCH_BOX(&none));
  m.impl("cpu_isa", TORCH_BOX(&none));
  m.impl("scratch_bytes", TORCH_BOX(&none));
  m.impl("release_scratch", TORCH_BOX(&none));
}
