// A gated recurrent unit over the pieces of sequences.

#include "operations.h"
#include "threads.h"

namespace sab {

void gru(const Gru& of) { run(kernels_in_use().gru, of); }

void gru_backward(const GruBackward& of) { run(kernels_in_use().gru_backward, of); }

}  // namespace sab
