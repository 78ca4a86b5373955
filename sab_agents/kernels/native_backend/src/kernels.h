// The operations that are compiled once for each instruction set.
#pragma once

#include "arguments.h"
#include "progress.h"

namespace sab {

// An operation over rows, which never depend on each other, so that any split of them gives the same results.
template <class Arguments>
struct Entry {
    int64_t (*shared_size)(const Arguments&);               // floats that all threads read: packed weights
    void (*prepare)(const Arguments&, float* shared);
    int64_t (*scratch_size)(const Arguments&);              // floats that each thread needs
    void (*run)(const Arguments&, const float* shared, float* scratch, int64_t first, int64_t last);
};

struct Kernels {
    const char* const* scores;  // the names of the kinds, then null
    Entry<Forward> forward;
    // The two halves of it for one row, where no read enters h: the second follows the first, in another thread.
    void (*forward_cells)(const Forward&, const float* shared, float* scratch, int64_t row, Progress&);
    void (*forward_reads)(const Forward&, const float* shared, float* scratch, int64_t row, const Progress&);
    Entry<Backward> backward;
    Entry<Step> step;
    Entry<Linear> linear;
    Entry<Outer> outer;
    Entry<Gru> gru;
    Entry<GruBackward> gru_backward;
    void (*readout)(const Readout&);
    void (*readout_backward)(const ReadoutBackward&);
    bool (*descend)(Descent&);
    void (*loss_gradient)(const Head&);
    float (*norm)(int64_t count, const float* x);
    bool (*all_finite)(int64_t count, const float* x);
    void (*activate)(const Activate&);
};

const Kernels& kernels_in_use();  // of the instruction set that was chosen

}  // namespace sab
