// The CPython extension `sab_agents.kernels.native_backend._native`: addresses and sizes in, as Python integers.
//
// The caller (sab_agents/kernels/native_backend/scan.py) vouches for shapes, dtypes, contiguity and the range of every index.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "agent_calls.h"
#include "arguments.h"
#include "calls.h"
#include "memory.h"
#include "run_calls.h"
#include "segment_calls.h"
#include "stream_calls.h"
#include "threads.h"

namespace sab {
namespace baseline {
extern const Kernels kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace {

struct Choice {
    const char* name;
    const Kernels* kernels;
};

Choice best_choice() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        return {"avx512", &avx512::kernels};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"avx2", &avx2::kernels};
#endif
    return {"baseline", &baseline::kernels};
}

// What this processor cannot run gives null.
const Kernels* kernels_named(const char* name) {
    const Choice best = best_choice();
    if (std::strcmp(name, best.name) == 0) return best.kernels;
    if (std::strcmp(name, "baseline") == 0) return &baseline::kernels;
#if defined(__x86_64__)
    if (std::strcmp(name, "avx2") == 0 && std::strcmp(best.name, "avx512") == 0) return &avx2::kernels;
#endif
    return nullptr;
}

Choice chosen = best_choice();

template <class Arguments>
PyObject* call(const Entry<Arguments>& entry, PyObject* const* given, Py_ssize_t count) {
    Arguments arguments;
    if (!parse(given, count, arguments)) return nullptr;
    if (!without_lock([&] { run(entry, arguments); })) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// True, or False and nothing done where a slot is out of range.
PyObject* forward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Forward of;
    if (!parse(given, count, of)) return nullptr;
    if (!in_range(of)) Py_RETURN_FALSE;
    const Entry<Forward>& entry = chosen.kernels->forward;
    return without_lock([&] { run(entry, of); }) ? Py_NewRef(Py_True) : PyErr_NoMemory();
}

PyObject* backward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    return call(chosen.kernels->backward, given, count);
}

// True, or False and nothing done where x is not finite: the caller then says so.
PyObject* step(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Step arguments;
    if (!parse(given, count, arguments)) return nullptr;
    if (!chosen.kernels->all_finite(arguments.rows * arguments.input, arguments.x)) Py_RETURN_FALSE;
    const Entry<Step>& entry = chosen.kernels->step;
    return without_lock([&] { run(entry, arguments); }) ? Py_NewRef(Py_True) : PyErr_NoMemory();
}

struct Numbers {
    int64_t threads, count;
    const float* x;
};

PyObject* all_finite(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Numbers of;
    if (!parse(given, count, of)) return nullptr;
    const Kernels& by = *chosen.kernels;
    std::atomic<bool> finite{true};
    without_lock([&] {
        in_parallel(of.threads, [&](int64_t part) {
            const int64_t first = part * of.count / of.threads, last = (part + 1) * of.count / of.threads;
            if (!by.all_finite(last - first, of.x + first)) finite = false;
        });
    });
    return PyBool_FromLong(finite);
}

// The highest slot that is written to.
PyObject* count(PyObject*, PyObject* const* given, Py_ssize_t fields) {
    Count of;
    if (!parse(given, fields, of)) return nullptr;
    return PyLong_FromLongLong(count_steps(of));
}

// True, or False and nothing done where a slot is out of range.
PyObject* remember(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Remember of;
    if (!parse(given, count, of)) return nullptr;
    for (int64_t i = 0; i < of.steps * of.rows; ++i)
        if (of.write_slot[i] >= of.slots) Py_RETURN_FALSE;
    without_lock([&] {
        const int64_t parts = of.threads < of.rows ? of.threads : of.rows;
        in_parallel(parts, [&](int64_t part) {
            for (int64_t row = part * of.rows / parts; row < (part + 1) * of.rows / parts; ++row)
                RememberedRow{of, row}.run();
        });
    });
    Py_RETURN_TRUE;
}

PyObject* linear(PyObject*, PyObject* const* given, Py_ssize_t count) {
    return call(chosen.kernels->linear, given, count);
}

PyObject* outer(PyObject*, PyObject* const* given, Py_ssize_t count) {
    return call(chosen.kernels->outer, given, count);
}

void learn_head(const Kernels& by, const Head& of) {
    const int64_t n = of.count, N = of.width, C = of.classes;
    const auto row = static_cast<size_t>(N) * sizeof(float);
    const float* chosen = of.outputs;
    if (of.place != nullptr) {
        for (int64_t i = 0; i < n; ++i) std::memcpy(of.chosen + i * N, of.outputs + of.place[i] * N, row);
        chosen = of.chosen;
    }
    run(by.linear, Linear{of.threads, n, N, C, 1, N, chosen, of.weight, of.bias, nullptr, of.gradient});
    by.loss_gradient(of);
    if (of.grad_weight != nullptr)
        run(by.outer, Outer{of.threads, C, N, n, 1, nullptr, of.gradient, chosen, of.grad_weight});
    for (int64_t i = 0; of.grad_bias != nullptr && i < n * C; ++i) of.grad_bias[i % C] += of.gradient[i];
    float* back = of.place == nullptr ? of.back : of.chosen;
    run(by.linear, Linear{of.threads, n, C, N, N, 1, of.gradient, of.weight, nullptr, nullptr, back});
    if (of.place == nullptr) return;
    std::memset(of.back, 0, static_cast<size_t>(of.all) * row);
    for (int64_t i = 0; i < n; ++i) std::memcpy(of.back + of.place[i] * N, of.chosen + i * N, row);
}

// True, or False and nothing done where a place or class is out of range.
PyObject* head(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Head of;
    if (!parse(given, count, of)) return nullptr;
    for (int64_t i = 0; i < of.count; ++i) {
        if (of.place != nullptr && (of.place[i] < 0 || of.place[i] >= of.all)) Py_RETURN_FALSE;
        const int64_t target = of.loss == 0 ? static_cast<const int64_t*>(of.target)[i] : 0;
        if (target < 0 || target >= of.classes) Py_RETURN_FALSE;
    }
    const Kernels& by = *chosen.kernels;
    return without_lock([&] { learn_head(by, of); }) ? Py_NewRef(Py_True) : PyErr_NoMemory();
}

PyObject* norm(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Numbers of;
    if (!parse(given, count, of)) return nullptr;
    float found = 0.0f;
    const Kernels& by = *chosen.kernels;
    without_lock([&] { found = by.norm(of.count, of.x); });
    return PyFloat_FromDouble(static_cast<double>(found));
}

struct Memory {
    int64_t address, bytes;
};

// Asks for large pages in the part of a new buffer that can have them: with small ones, the first touch of a large
// buffer costs more than the computation that fills it. Only advice: nothing depends on whether it is taken.
PyObject* use_large_pages(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Memory of;
    if (!parse(given, count, of)) return nullptr;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr int64_t page = int64_t{1} << 21;
    const int64_t first = (of.address + page - 1) / page * page, last = (of.address + of.bytes) / page * page;
    if (last > first) madvise(reinterpret_cast<void*>(first), static_cast<size_t>(last - first), MADV_HUGEPAGE);
#endif
    Py_RETURN_NONE;
}

struct Activation {
    int64_t count;
    const float* x;
    float *tanh, *sigmoid;
};

PyObject* activate(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Activation of;
    if (!parse(given, count, of)) return nullptr;
    chosen.kernels->activate(of.count, of.x, of.tanh, of.sigmoid);
    Py_RETURN_NONE;
}

PyObject* instruction_set(PyObject*, PyObject*) { return PyUnicode_FromString(chosen.name); }

PyObject* use_instruction_set(PyObject*, PyObject* name) {
    const char* wanted = PyUnicode_AsUTF8(name);
    if (wanted == nullptr) return nullptr;
    const Kernels* kernels = kernels_named(wanted);
    if (kernels == nullptr) {
        PyErr_Format(PyExc_ValueError, "this processor or build has no kernels named %R", name);
        return nullptr;
    }
    static const char* const names[] = {"baseline", "avx2", "avx512"};
    for (const char* known : names)
        if (std::strcmp(known, wanted) == 0) chosen = {known, kernels};
    Py_RETURN_NONE;
}

// Calls each function of a tuple, at once, on threads that torch has anyway. They must not raise, and their results are
// thrown away.
PyObject* at_once(PyObject*, PyObject* functions) {
    if (!PyTuple_Check(functions)) return PyErr_Format(PyExc_TypeError, "expected a tuple of functions");
    std::atomic<bool> raised{false};
    Py_BEGIN_ALLOW_THREADS
    in_parallel(PyTuple_GET_SIZE(functions), [&](int64_t part) {
        const PyGILState_STATE state = PyGILState_Ensure();
        PyObject* result = PyObject_CallNoArgs(PyTuple_GET_ITEM(functions, part));
        if (result == nullptr) {
            PyErr_Clear();
            raised = true;
        }
        Py_XDECREF(result);
        PyGILState_Release(state);
    });
    Py_END_ALLOW_THREADS
    if (raised) return PyErr_Format(PyExc_RuntimeError, "a function raised, which none of them must");
    Py_RETURN_NONE;
}

template <class Function>
PyCFunction as_method(Function function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"forward", as_method(forward), METH_FASTCALL, "The fields of `Forward`, in order; False: a slot is out of range."},
    {"backward", as_method(backward), METH_FASTCALL, "The fields of `Backward`, in order."},
    {"run_forward", as_method(run_forward), METH_FASTCALL, "The fields of `RunForward`; False: a slot is wrong."},
    {"run_backward", as_method(run_backward), METH_FASTCALL, "The fields of `RunBackward`, in order."},
    {"step", as_method(step), METH_FASTCALL, "The fields of `Step` (arguments.h), in order; False: x is not finite."},
    {"all_finite", as_method(all_finite), METH_FASTCALL, "Threads, count and address of floats."},
    {"count", as_method(count), METH_FASTCALL, "The fields of `Count`, in order; returns the highest slot."},
    {"remember", as_method(remember), METH_FASTCALL, "The fields of `Remember`; False: a slot is out of range."},
    {"take_steps", as_method(stream_take_steps), METH_FASTCALL, "The fields of `TakeSteps`; how many were taken."},
    {"take", as_method(stream_take), METH_FASTCALL, "The fields of `Take`; False: a slot is out of range."},
    {"advance", as_method(stream_advance), METH_FASTCALL, "The fields of `Advance`; False: an index is out of range."},
    {"order", as_method(stream_order), METH_FASTCALL, "The fields of `Order`."},
    {"select", as_method(stream_select), METH_FASTCALL, "The fields of `Select`; pieces, or −1: an index is wrong."},
    {"gather", as_method(stream_gather), METH_FASTCALL, "The fields of `Gather`, in order."},
    {"linear", as_method(linear), METH_FASTCALL, "The fields of `Linear` (arguments.h), in order."},
    {"outer", as_method(outer), METH_FASTCALL, "The fields of `Outer` (arguments.h), in order."},
    {"weight_gradients", as_method(weight_gradients), METH_FASTCALL, "The fields of `WeightGradients`, in order."},
    {"readout", as_method(agent_readout), METH_FASTCALL, "The fields of `Readout` (agent_arguments.h), in order."},
    {"readout_backward", as_method(agent_readout_backward), METH_FASTCALL, "The fields of `ReadoutBackward`."},
    {"descend", as_method(agent_descend), METH_FASTCALL, "The fields of `Descent`; False: something is not finite."},
    {"step_units", as_method(agent_step_units), METH_FASTCALL, "The fields of `Units`, in order."},
    {"credit_units", as_method(agent_credit_units), METH_FASTCALL, "The fields of `UnitsBackward`, in order."},
    {"bound_forward", as_method(bound_forward), METH_FASTCALL,
     "Address and fields of a `BoundForward`; False: a slot is out of range."},
    {"bound_backward", as_method(bound_backward), METH_FASTCALL, "Address and fields of a `BoundBackward`."},
    {"segment_step", as_method(segment_step), METH_FASTCALL,
     "Address and fields of a `SegmentStep` (segment.h); 1: x is not finite, 2: a slot is out of range."},
    {"segment_backward", as_method(segment_backward), METH_FASTCALL,
     "Address and fields of a `SegmentBackward`; the pieces that received gradient, −1: an index is wrong."},
    {"segment_credit", as_method(segment_credit), METH_FASTCALL, "Address and fields of a `SegmentBackward`."},
    {"head", as_method(head), METH_FASTCALL, "The fields of `Head`; False: a place or class is out of range."},
    {"norm", as_method(norm), METH_FASTCALL, "1, count and address of floats; their norm."},
    {"use_large_pages", as_method(use_large_pages), METH_FASTCALL, "Address and bytes of a new buffer."},
    {"at_once", at_once, METH_O, "A tuple of functions that must not raise: calls them on threads of their own."},
    {"activate", as_method(activate), METH_FASTCALL, "count, x, and where tanh(x) and sigmoid(x) go: float32."},
    {"instruction_set", instruction_set, METH_NOARGS, "The one in use: \"avx512\", \"avx2\" or \"baseline\"."},
    {"use_instruction_set", use_instruction_set, METH_O, "For tests: another that this processor has."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", "SAB's scan on the CPU, compiled.", -1, methods,
                      nullptr, nullptr, nullptr, nullptr};

}  // namespace

const Kernels& kernels_in_use() { return *chosen.kernels; }

}  // namespace sab

PyMODINIT_FUNC PyInit__native() {
    sab::find_team();
    return PyModule_Create(&sab::module);
}
