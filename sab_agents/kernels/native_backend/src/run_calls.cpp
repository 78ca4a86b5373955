// From inputs through a scan to its outputs, and back to every weight.

#include "run_calls.h"

#include "threads.h"

namespace sab {

namespace {

// The terms from the first to the last whose `left` (terms, columns) is not all zeros.
struct Span {
    int64_t first, last;

    Span(int64_t terms, int64_t columns, const float* left) : first(0), last(terms) {
        while (first < last && zeros(left + first * columns, columns)) ++first;
        while (last > first && zeros(left + (last - 1) * columns, columns)) --last;
    }

    static bool zeros(const float* from, int64_t count) {
        for (int64_t i = 0; i < count; ++i)
            if (from[i] != 0.0f) return false;
        return true;
    }
};

constexpr int64_t FEW = 128;  // states that are sooner copied than summed apart

// One sum after another, each split over the threads. For weight_hh the first step follows h, every other the step
// before; no start follows anything.
void sum_gradients(const Kernels& by, const WeightGradients& of) {
    const int64_t T = of.steps, B = of.rows, H = of.size, A = of.attention, V = of.held + T;
    const auto outer = [&](int64_t rows, int64_t columns, int64_t terms, const float* left, const float* right,
                           float* out) {
        if (out != nullptr) run(by.outer, Outer{of.threads, rows, columns, terms, of.add, nullptr, left, right, out});
    };
    const auto sum = [&](int64_t rows, int64_t columns, const float* from, float* out) {
        if (out == nullptr) return;
        if (!of.add) std::memset(out, 0, static_cast<size_t>(columns) * sizeof(float));
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) out[j] += from[i * columns + j];
    };
    if (of.weight_hh != nullptr && T * B <= FEW) {
        const Buffer before = allocate(T * B * H);
        const size_t bytes = static_cast<size_t>(B * H) * sizeof(float);
        std::memcpy(before.get(), of.h, bytes);
        std::memcpy(before.get() + B * H, of.hidden + of.held * B * H, bytes * static_cast<size_t>(T - 1));
        run(by.outer, Outer{of.threads, 4 * H, H, T * B, of.add, of.start, of.grad_gates, before.get(), of.weight_hh});
    } else if (of.weight_hh != nullptr) {
        Outer part{of.threads, 4 * H, H, B, of.add, of.start, of.grad_gates, of.h, of.weight_hh};
        run(by.outer, part);
        part.add = 1, part.terms = (T - 1) * B;
        part.skip += B, part.left += B * 4 * H, part.right = of.hidden + of.held * B * H;
        run(by.outer, part);
    }
    outer(4 * H, of.input, T * B, of.grad_gates, of.x, of.weight_ih);
    sum(T * B, 4 * H, of.grad_gates, of.bias_ih);
    sum(T * B, 4 * H, of.grad_gates, of.bias_hh);
    // Most keys of a memory that is not full, or of which little was read, received nothing.
    const Span keys(of.key_weight == nullptr ? 0 : V * B, A, of.grad_keys);
    outer(A, H, keys.last - keys.first, of.grad_keys + keys.first * A, of.hidden + keys.first * H, of.key_weight);
    outer(A, H, T * B, of.grad_query, of.output, of.query_weight);
    sum(T * B, A, of.grad_query, of.query_bias);
    sum(B, A, of.grad_score_weight, of.score_weight);
}

void copy_last(const BoundForward& of) {
    const Forward& scan = of.scan;
    const int64_t B = scan.rows, H = scan.size;
    const size_t bytes = static_cast<size_t>(H) * sizeof(float);
    for (int64_t r = 0; r < B; ++r) {
        std::memcpy(of.last + r * 2 * H, scan.hidden + ((scan.held + scan.steps - 1) * B + r) * H, bytes);
        std::memcpy(of.last + r * 2 * H + H, scan.summary + ((scan.steps - 1) * B + r) * H, bytes);
    }
}

}  // namespace

bool in_range(const Forward& of) {
    for (int64_t i = 0; i < of.steps * of.rows; ++i)
        if (of.write_slot[i] < -1 || of.write_slot[i] >= of.slots) return false;
    return true;
}

void scan_forward(const BoundForward& of) {
    const Forward& scan = of.scan;
    const Kernels& by = kernels_in_use();
    const int64_t width = 4 * scan.size, rows = scan.steps * scan.rows;
    run(by.linear, Linear{scan.threads, rows, of.input, width, 1, of.input, of.x, of.weight_ih, of.bias_ih, of.bias_hh,
                          scan.gates});
    run(by.forward, scan);
    if (of.last != nullptr) copy_last(of);
}

void scan_backward(const BoundBackward& of) {
    const Backward& scan = of.scan;
    const Kernels& by = kernels_in_use();
    run(by.backward, scan);
    WeightGradients sums{scan.threads, scan.steps, scan.rows, of.input, scan.size, scan.attention, scan.held};
    sums.add = 1;
    sums.start = of.start, sums.x = of.x, sums.h = of.h, sums.hidden = scan.hidden, sums.output = scan.output;
    sums.grad_gates = scan.grad_gates, sums.grad_keys = scan.grad_keys, sums.grad_query = scan.grad_query;
    sums.grad_score_weight = scan.grad_score_weight;
    sums.weight_ih = of.weight_ih, sums.weight_hh = of.weight_hh, sums.bias_ih = of.bias_ih, sums.bias_hh = of.bias_hh;
    sums.key_weight = of.key_weight, sums.query_weight = of.query_weight, sums.query_bias = of.query_bias;
    sums.score_weight = of.score_weight;
    sum_gradients(by, sums);
}

PyObject* weight_gradients(PyObject*, PyObject* const* given, Py_ssize_t count) {
    WeightGradients of;
    if (!parse(given, count, of)) return nullptr;
    const Kernels& by = kernels_in_use();
    if (!without_lock([&] { sum_gradients(by, of); })) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

namespace {

void join(const Forward& of, float* output) {
    const int64_t steps = of.steps * of.rows, H = of.size;
    const auto bytes = static_cast<size_t>(H) * sizeof(float);
    for (int64_t i = 0; i < steps; ++i) {
        std::memcpy(output + 2 * i * H, of.hidden + (of.held * of.rows + i) * H, bytes);
        std::memcpy(output + (2 * i + 1) * H, of.summary + i * H, bytes);
    }
}

}  // namespace

// True, or False and nothing done where a slot is out of range.
PyObject* run_forward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    RunForward of;
    if (!parse(given, count, of)) return nullptr;
    if (!in_range(of.scan)) Py_RETURN_FALSE;
    const Kernels& by = kernels_in_use();
    const bool enough_memory = without_lock([&] {
        run(by.linear, of.gates);
        run(by.forward, of.scan);
        if (of.output != nullptr) join(of.scan, of.output);
    });
    return enough_memory ? Py_NewRef(Py_True) : PyErr_NoMemory();
}

PyObject* run_backward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    RunBackward of;
    if (!parse(given, count, of)) return nullptr;
    const Kernels& by = kernels_in_use();
    const bool enough_memory = without_lock([&] {
        run(by.backward, of.scan);
        sum_gradients(by, of.sums);
    });
    if (!enough_memory) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// True, or False and nothing done where a slot is out of range.
PyObject* bound_forward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    BoundForward of;
    if (!parse(given, count, of)) return nullptr;
    if (!in_range(of.scan)) Py_RETURN_FALSE;
    return without_lock([&] { scan_forward(of); }) ? Py_NewRef(Py_True) : PyErr_NoMemory();
}

PyObject* bound_backward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    BoundBackward of;
    if (!parse(given, count, of)) return nullptr;
    if (!without_lock([&] { scan_backward(of); })) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

}  // namespace sab
