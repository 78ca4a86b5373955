// The operations around the kernels: what is checked before them, and in which order they run.

#include "operations.h"

#include <atomic>
#include <cstring>

#include "credit.h"
#include "memory.h"
#include "mixture.h"
#include "scale.h"
#include "stream.h"
#include "surrogate.h"
#include "threads.h"
#include "units.h"

namespace sab {

namespace {

bool targets_in_range(const Head& of) {
    for (int64_t i = 0; i < of.count; ++i) {
        if (of.place != nullptr && !within(of.place[i], 0, of.all)) return false;
        if (of.loss == 0 && !within(static_cast<const int64_t*>(of.target)[i], 0, of.classes)) return false;
    }
    return true;
}

// Of a linear layer, from the gradient (count, outputs) of what it gives: those of its weight and bias that are wanted.
void weight_gradients(int64_t threads, int64_t add, int64_t count, int64_t outputs, int64_t inputs, const float* gradient,
                      const float* x, float* weight, float* bias) {
    if (weight == nullptr && bias == nullptr) return;
    Outer sum{};
    sum.threads = threads, sum.add = add, sum.terms = count;
    sum.rows = outputs, sum.columns = weight == nullptr ? 0 : inputs;
    sum.left = gradient, sum.right = x, sum.out = weight, sum.sums = bias;
    run(kernels_in_use().outer, sum);
}

}  // namespace

bool step(const Step& of) {
    if (!kernels_in_use().all_finite(of.rows * of.input, of.x)) return false;
    run(kernels_in_use().step, of);
    return true;
}

int64_t count(const Count& of) { return count_steps(of); }

bool remember(const Remember& of) {
    for (int64_t i = 0; i < of.steps * of.rows; ++i)
        if (of.write_slot[i] >= of.slots) return false;
    const int64_t parts = of.threads < of.rows ? of.threads : of.rows;
    in_parallel(parts, [&](int64_t part) {
        for (int64_t row = part * of.rows / parts; row < (part + 1) * of.rows / parts; ++row)
            RememberedRow{of, row}.run();
    });
    return true;
}

void linear(const Linear& of) { run(kernels_in_use().linear, of); }

void outer(const Outer& of) { run(kernels_in_use().outer, of); }

void layer_backward(const LayerBackward& of) {
    const int64_t N = of.rows, D = of.inputs, F = of.outputs;
    const Kernels& by = kernels_in_use();
    for (int64_t i = 0; of.activation != 0 && i < N * F; ++i)
        of.gradient[i] = of.activation == 1 ? of.gradient[i] * (1.0f - of.out[i] * of.out[i])
                                            : (of.out[i] <= 0.0f ? 0.0f : of.gradient[i]);
    weight_gradients(of.threads, of.add, N, F, D, of.gradient, of.x, of.grad_weight, of.grad_bias);
    if (of.grad_x == nullptr) return;
    Linear back{};
    back.threads = of.threads, back.rows = N, back.k = F, back.n = D, back.along_k = D, back.along_n = 1;
    back.x = of.gradient, back.weight = of.weight, back.out = of.grad_x;
    run(by.linear, back);
}

bool take(const Take& of) { return take_step(of); }

int64_t take_steps(const TakeSteps& of) {
    Step next = *of.step;
    Take taking = *of.take;
    const int64_t rows = next.rows;
    for (int64_t taken = 0; taken < of.count; ++taken, ++taking.time) {
        if (!step(next) || !take_step(taking)) return taken;
        next.x += rows * next.input, taking.observation += rows * taking.bytes;
        if (next.start != nullptr) next.start = next.start + rows, taking.start = taking.start + rows;
    }
    return of.count;
}

bool advance(const Advance& of) { return advance_window(of); }

int64_t select(Select& of) { return select_pieces(of); }

void gather(const Gather& of) { gather_pieces(of); }

bool head(const Head& of) {
    if (!targets_in_range(of)) return false;
    const int64_t n = of.count, N = of.width, C = of.classes;
    const auto row = static_cast<size_t>(N) * sizeof(float);
    const bool some = of.place != nullptr;
    float* const chosen = of.chosen;
    for (int64_t i = 0; some && i < n; ++i) std::memcpy(chosen + i * N, of.outputs + of.place[i] * N, row);
    const Kernels& by = kernels_in_use();
    Linear layer{};
    layer.threads = of.threads, layer.rows = n, layer.k = N, layer.n = C, layer.along_k = 1, layer.along_n = N;
    layer.x = some ? chosen : of.outputs, layer.weight = of.weight, layer.bias = of.bias, layer.out = of.gradient;
    run(by.linear, layer);
    by.loss_gradient(of);
    weight_gradients(of.threads, 1, n, C, N, of.gradient, layer.x, of.grad_weight, of.grad_bias);
    Linear back{};
    back.threads = of.threads, back.rows = n, back.k = C, back.n = N, back.along_k = N, back.along_n = 1;
    back.x = of.gradient, back.weight = of.weight, back.out = some ? chosen : of.grad_outputs;
    run(by.linear, back);
    if (!some) return true;
    std::memset(of.grad_outputs, 0, static_cast<size_t>(of.all) * row);
    for (int64_t i = 0; i < n; ++i) std::memcpy(of.grad_outputs + of.place[i] * N, chosen + i * N, row);
    return true;
}

void readout(const Readout& of) { kernels_in_use().readout(of); }

void readout_backward(const ReadoutBackward& of) { kernels_in_use().readout_backward(of); }

bool descend(Descent& of) { return kernels_in_use().descend(of); }

bool note(const Note& of) {
    if (!kernels_in_use().all_finite(of.size, of.x)) return false;
    std::memcpy(of.record + of.time * of.size, of.x, static_cast<size_t>(of.size) * sizeof(float));
    if (of.starts != nullptr) of.starts[of.time] = 0;
    return true;
}

void mix(const Mix& of) { mix_probabilities(of); }

void mix_learn(const MixLearn& of) { learn_mixture(of); }

void standardise(const Standardise& of) { lay_out(of); }

void measure(const Measure& of) { measure_features(of); }

void units(const Units& of) { step_units(of); }

void units_backward(const UnitsBackward& of) { credit_units(of); }

bool policy_loss(const PolicyLoss& of) { return surrogate_of(of); }

void value_loss(const ValueLoss& of) { squared_error_of(of); }

bool all_finite(const AllFinite& of) {
    const Kernels& by = kernels_in_use();
    std::atomic<bool> finite{true};
    in_parallel(of.threads, [&](int64_t part) {
        const int64_t first = part * of.count / of.threads, last = (part + 1) * of.count / of.threads;
        if (!by.all_finite(last - first, of.x + first)) finite = false;
    });
    return finite;
}

double norm(const Norm& of) { return static_cast<double>(kernels_in_use().norm(of.count, of.x)); }

void activate(const Activate& of) { kernels_in_use().activate(of); }

void large_pages(const LargePages& of) { ask_for_large_pages(of.buffer, of.bytes); }

}  // namespace sab
