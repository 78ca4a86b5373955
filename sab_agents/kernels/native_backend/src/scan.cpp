// From inputs through a scan to its outputs, and back to every weight.

#include <cstring>
#include <vector>

#include "memory.h"
#include "operations.h"
#include "threads.h"

namespace sab {

namespace {

bool slots_in_range(const Forward& of) {
    for (int64_t i = 0; i < of.steps * of.rows; ++i)
        if (of.write_slot[i] < -1 || of.write_slot[i] >= of.slots) return false;
    return true;
}

// Where no read enters h, and half of the threads would have no row.
bool in_halves(const Forward& of) {
    return !of.recurrence.enters(of.gain) && of.slots > 0 && 2 * of.rows <= of.threads;
}

// Each row's recurrence and its reads at once. No first half waits for anything, and all of them are handed out first.
void run_halves(const Kernels& by, const Forward& of) {
    const std::unique_ptr<Progress[]> progress(new Progress[static_cast<size_t>(of.rows)]);
    run_parts(by.forward, of, 2 * of.rows, [&](int64_t half, const float* shared, float* scratch) {
        const int64_t row = half % of.rows;
        Progress& made = progress[static_cast<size_t>(row)];
        if (half < of.rows) by.forward_cells(of, shared, scratch, row, made);
        else by.forward_reads(of, shared, scratch, row, made);
    });
}

bool zeros(const float* from, int64_t count) {
    uint32_t set = 0;
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, from + i, sizeof bits);
        set |= bits;
    }
    return set << 1 == 0;  // 0 or −0
}

// The gradients of weights, from what the backward scan left: one sum over steps and rows after another.
struct WeightSums {
    const Backward& of;
    const Kernels& by = kernels_in_use();
    const int64_t T = of.steps, B = of.rows, H = of.size, A = of.attention;
    const Gradients& into = of.gradients;

    void run() const {
        if (into.weight_hh != nullptr) recurrent();
        inputs();
        if (into.key_weight != nullptr) keys();
        attended();
        sum(A, of.sent.score_weight, into.score_weight, A);
        if (of.recurrence.gates_output()) {  // those of w and of b, side by side
            sum(H, of.sent.output_gate, into.output_gate_weight, 2 * H);
            sum(H, of.sent.output_gate + H, into.output_gate_bias, 2 * H);
        }
    }

    // Of the gates: the weights of inputs, and the biases, which both have the same gradient.
    void inputs() const {
        if (into.weight_ih == nullptr && into.bias_ih == nullptr && into.bias_hh == nullptr) return;
        const Buffer bias = allocate(4 * H);
        std::memset(bias.get(), 0, static_cast<size_t>(4 * H) * sizeof(float));
        Outer whole = product(4 * H, of.input, T * B, of.sent.gates, of.x, into.weight_ih);
        whole.sums = bias.get();
        run(whole);
        hand_over(4 * H, bias.get(), into.bias_ih);
        hand_over(4 * H, bias.get(), into.bias_hh);
    }

    // Those of all linear functions of ĥ that a read takes, which share a product.
    void attended() const {
        const int64_t Q = of.recurrence.attended(A, H);
        if (Q == A) {
            Outer whole = product(A, H, T * B, of.sent.query, of.tape.output, into.query_weight);
            whole.sums = into.query_bias;
            return run(whole);
        }
        const Buffer weight = allocate(Q * H), bias = allocate(Q);
        Outer whole = product(Q, H, T * B, of.sent.query, of.tape.output, weight.get());
        whole.add = 0, whole.sums = bias.get();
        run(whole);
        hand_over(A, 0, weight.get(), bias.get(), into.query_weight, into.query_bias);
        if (of.recurrence.ages()) hand_over(1, A, weight.get(), bias.get(), into.age_weight, into.age_bias);
        if (of.recurrence.gated()) hand_over(H, Q - H, weight.get(), bias.get(), into.gate_weight, into.gate_bias);
    }

    void hand_over(int64_t count, int64_t from, const float* weight, const float* bias, float* to_weight,
                   float* to_bias) const {
        hand_over(count * H, weight + from * H, to_weight);
        hand_over(count, bias + from, to_bias);
    }

    void hand_over(int64_t count, const float* from, float* to) const {
        if (to == nullptr) return;
        for (int64_t i = 0; i < count; ++i) to[i] = of.add ? to[i] + from[i] : from[i];
    }

    // Without columns where no result is wanted.
    Outer product(int64_t rows, int64_t columns, int64_t terms, const float* left, const float* right,
                  float* out) const {
        Outer made{};
        made.threads = of.threads, made.add = of.add;
        made.rows = rows, made.columns = out == nullptr ? 0 : columns, made.terms = terms;
        made.left = left, made.right = right, made.out = out;
        return made;
    }

    void run(const Outer& product) const { sab::run(by.outer, product); }

    // Of what each row has left: `stride` floats from one row to the next.
    void sum(int64_t columns, const float* from, float* out, int64_t stride) const {
        if (out == nullptr) return;
        if (!of.add) std::memset(out, 0, static_cast<size_t>(columns) * sizeof(float));
        for (int64_t i = 0; i < B; ++i)
            for (int64_t j = 0; j < columns; ++j) out[j] += from[i * stride + j];
    }

    // States that are sooner copied than summed apart, for which the gradient is read and written once more.
    const int64_t few = 4 * H > 128 ? 4 * H : 128;

    // The first step follows h, every other the step before; a start follows nothing.
    void recurrent() const {
        const float* hidden = of.states();
        if (T * B <= few) {
            const Buffer before = allocate(T * B * H);
            const size_t bytes = static_cast<size_t>(B * H) * sizeof(float);
            std::memcpy(before.get(), of.h, bytes);
            std::memcpy(before.get() + B * H, hidden, bytes * static_cast<size_t>(T - 1));
            Outer whole = product(4 * H, H, T * B, of.sent.gates, before.get(), into.weight_hh);
            whole.skip = of.start;
            return run(whole);
        }
        Outer first = product(4 * H, H, B, of.sent.gates, of.h, into.weight_hh);
        first.skip = of.start;
        run(first);
        Outer rest = product(4 * H, H, (T - 1) * B, of.sent.gates + B * 4 * H, hidden, into.weight_hh);
        rest.skip = of.start + B, rest.add = 1;
        run(rest);
    }

    // Keys that no read gave credit are skipped; of the starting memory, those that were read are gathered first.
    void keys() const {
        const float* const written = of.sent.keys + of.held * B * A;
        std::vector<uint8_t> unused(static_cast<size_t>(T * B));
        for (int64_t i = 0; i < T * B; ++i) unused[static_cast<size_t>(i)] = zeros(written + i * A, A);
        Outer of_steps = product(A, H, T * B, written, of.tape.hidden, into.key_weight);
        of_steps.skip = unused.data();
        run(of_steps);
        if (of.held == 0) return;
        std::vector<uint8_t> read(static_cast<size_t>(of.held * B));
        mark_read(of, read.data());
        const auto count = static_cast<int64_t>(std::count(read.begin(), read.end(), 1));
        if (count == 0) return;
        const Buffer grads = allocate(count * A), states = allocate(count * H);
        for (int64_t i = 0, place = 0; i < of.held * B; ++i) {
            if (read[static_cast<size_t>(i)] == 0) continue;
            std::memcpy(grads.get() + place * A, of.sent.keys + i * A, static_cast<size_t>(A) * sizeof(float));
            std::memcpy(states.get() + place * H, of.version_of(i / B, i % B), static_cast<size_t>(H) * sizeof(float));
            ++place;
        }
        Outer of_memory = product(A, H, count, grads.get(), states.get(), into.key_weight);
        of_memory.add = 1;
        run(of_memory);
    }
};

}  // namespace

bool forward(const Forward& of) {
    if (!slots_in_range(of)) return false;
    const Kernels& by = kernels_in_use();
    if (of.projection.weight_ih != nullptr) {
        Linear gates{};
        gates.threads = of.threads, gates.rows = of.steps * of.rows;
        gates.k = of.input, gates.n = 4 * of.size, gates.along_k = 1, gates.along_n = of.input;
        gates.x = of.x, gates.weight = of.projection.weight_ih;
        gates.bias = of.projection.bias_ih, gates.second_bias = of.projection.bias_hh;
        gates.out = of.tape.gates;
        run(by.linear, gates);
    }
    if (in_halves(of)) run_halves(by, of);
    else run(by.forward, of);
    return true;
}

void backward(const Backward& of) {
    run(kernels_in_use().backward, of);
    WeightSums{of}.run();
}

}  // namespace sab
