// The CPython extension `sab_agents.kernels.native_backend._native`: its operations, and which kernels they use.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "binding.h"
#include "operations.h"
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

struct Names {  // interned
    PyObject *data_ptr, *grad, *requires_grad, *is_leaf;
} names;

bool find_names() {
    names.data_ptr = PyUnicode_InternFromString("data_ptr");
    names.grad = PyUnicode_InternFromString("grad");
    names.requires_grad = PyUnicode_InternFromString("requires_grad");
    names.is_leaf = PyUnicode_InternFromString("is_leaf");
    return names.data_ptr != nullptr && names.grad != nullptr && names.requires_grad != nullptr &&
           names.is_leaf != nullptr;
}

// 1 if a tensor lies at an address, 0 if not, −1 with an error set.
int starts_at(PyObject* tensor, PyObject* address) {
    PyObject* const now = PyObject_CallMethodNoArgs(tensor, names.data_ptr);
    const int same = now == nullptr ? -1 : PyObject_RichCompareBool(now, address, Py_EQ);
    Py_XDECREF(now);
    return same;
}

// 1 if an attribute of an object is this other one, 0 if not, −1 with an error set.
int has(PyObject* object, PyObject* name, PyObject* wanted) {
    PyObject* const found = PyObject_GetAttr(object, name);
    if (found == nullptr) return -1;
    Py_DECREF(found);
    return found == wanted;
}

// 1 if a tensor and its gradient lie at two addresses and the gradient is this object, None where it requires none; 0 if
// not, −1 with an error set.
int lies_at(PyObject* tensor, PyObject* before, PyObject* addresses, PyObject* gradient) {
    if (!PyTuple_Check(addresses) || PyTuple_GET_SIZE(addresses) != 2) {
        PyErr_SetString(PyExc_TypeError, "expected the addresses of a tensor and of its gradient");
        return -1;
    }
    int same = starts_at(tensor, PyTuple_GET_ITEM(addresses, 0));
    if (same == 1) same = has(tensor, names.requires_grad, gradient != Py_None ? Py_True : Py_False);
    // A tensor that is computed has no `.grad`, and torch warns of asking; it may lie where a parameter lay. The same
    // object cannot have become one if it requires gradient as before.
    if (same == 1 && tensor != before) same = has(tensor, names.is_leaf, Py_True);
    if (same == 1) same = has(tensor, names.grad, gradient);
    return same == 1 && gradient != Py_None ? starts_at(gradient, PyTuple_GET_ITEM(addresses, 1)) : same;
}

// Whether tensors lie where these lay before, at addresses, and have these gradients; one that is None is passed over.
PyObject* all_lie_at(PyObject*, PyObject* const* values, Py_ssize_t count) {
    bool lists = count == 4 && PyTuple_Check(values[0]);
    for (Py_ssize_t i = 1; lists && i < count; ++i)
        lists = PyList_Check(values[i]) && PyList_GET_SIZE(values[i]) == PyList_GET_SIZE(values[1]);
    if (!lists)
        return PyErr_Format(PyExc_TypeError,
                            "expected a tuple of tensors, and lists of those before, of addresses and of gradients");
    Py_ssize_t known = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values[0]); ++i) {
        PyObject* const tensor = PyTuple_GET_ITEM(values[0], i);
        if (tensor == Py_None) continue;
        if (known == PyList_GET_SIZE(values[1])) Py_RETURN_FALSE;
        const int same = lies_at(tensor, PyList_GET_ITEM(values[1], known), PyList_GET_ITEM(values[2], known),
                                 PyList_GET_ITEM(values[3], known));
        if (same < 0) return nullptr;
        if (same == 0) Py_RETURN_FALSE;
        ++known;
    }
    return PyBool_FromLong(known == PyList_GET_SIZE(values[1]));
}

// `os.environ` changes the process's environment too, and takes ten times as long to be asked.
PyObject* environment_variable(PyObject*, PyObject* name) {
    const char* const text = PyUnicode_AsUTF8(name);
    if (text == nullptr) return nullptr;
    const char* const value = std::getenv(text);
    return PyUnicode_DecodeFSDefault(value == nullptr ? "" : value);
}

PyMethodDef methods[] = {
    {"at_once", at_once, METH_O, "A tuple of functions that must not raise: calls them on threads of their own."},
    {"all_lie_at", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(all_lie_at)), METH_FASTCALL,
     "Whether tensors lie where others lay, and have these gradients, None where they require none."},
    {"environment_variable", environment_variable, METH_O, "Its value, empty if it is unset."},
    {"instruction_set", instruction_set, METH_NOARGS, "The one in use: \"avx512\", \"avx2\" or \"baseline\"."},
    {"use_instruction_set", use_instruction_set, METH_O, "For tests: another that this processor has."},
    {nullptr, nullptr, 0, nullptr},
};

const Operation operations[] = {
    operation<forward>("A scan; run returns False, and nothing was done, where a slot is out of range."),
    operation<backward>("The backward pass of a scan, to the gradients of all weights."),
    operation<step>("One step without gradient; run returns False, and nothing was done, where x is not finite."),
    operation<count>("Where each step stands in its episode; run returns the highest slot that is written to."),
    operation<remember>("What the memory holds after a scan; run returns False where a slot is out of range."),
    operation<linear>("A linear layer."),
    operation<layer_backward>("The backward pass of a linear layer and its activation."),
    operation<outer>("A sum of outer products."),
    operation<gru>("A gated recurrent unit over pieces of sequences."),
    operation<gru_backward>("Its backward pass, to what enters its gates."),
    operation<take>("Takes a stream's step; run returns False, and nothing was done, where a slot is out of range."),
    operation<take_steps>("Computes and takes steps; run returns how many, up to one that cannot be taken."),
    operation<advance>("Ends a window; run returns False, and nothing was done, where an index is out of range."),
    operation<select>("The pieces that a gradient leads to; run returns their number, −1 if an index is out of range."),
    operation<gather>("What selected pieces are replayed with."),
    operation<head>("A linear head, its loss and their gradient; run returns False where a target is out of range."),
    operation<readout, Lock::kept>("A streaming agent's readout."),
    operation<readout_backward, Lock::kept>("The backward pass of a readout."),
    operation<descend, Lock::kept>("One step of ObGD; run returns False where the error or the trace is not finite."),
    operation<note, Lock::kept>("Records a row; run returns False, and nothing was done, where it is not finite."),
    operation<units, Lock::kept>("One step of trace units."),
    operation<units_backward, Lock::kept>("The gradients of trace units' parameters."),
    operation<mix, Lock::kept>("Probabilities by several classifiers, and their weighted mean."),
    operation<mix_learn, Lock::kept>("One step of the weights and of the linear classifiers."),
    operation<standardise, Lock::kept>("Features, each brought to one scale, at their columns."),
    operation<measure, Lock::kept>("Counts features for their scales."),
    operation<policy_loss>("The clipped surrogate of PPO; run returns False where an action is out of range."),
    operation<value_loss>("The squared error of PPO's values."),
    operation<all_finite>("Run returns whether no number is NaN or infinite."),
    operation<norm>("Run returns the Euclidean norm."),
    operation<activate>("tanh and sigmoid, for the tests of their error."),
    operation<large_pages, Lock::kept>("Asks for large pages in a new buffer."),
};

bool add_operations(PyObject* module) {
    for (const Operation& each : operations) {
        PyObject* const type = make_type(each);
        const bool done = type != nullptr && PyModule_AddObjectRef(module, each.structure().name, type) == 0;
        Py_XDECREF(type);
        if (!done) return false;
    }
    return true;
}

// The kinds of score, by which operations know them by number.
bool add_scores(PyObject* module) {
    PyObject* const names = PyList_New(0);
    bool done = names != nullptr;
    for (const char* const* name = chosen.kernels->scores; done && *name != nullptr; ++name) {
        PyObject* const text = PyUnicode_FromString(*name);
        done = text != nullptr && PyList_Append(names, text) == 0;
        Py_XDECREF(text);
    }
    PyObject* const scores = done ? PyList_AsTuple(names) : nullptr;
    Py_XDECREF(names);
    done = scores != nullptr && PyModule_AddObjectRef(module, "SCORES", scores) == 0;
    Py_XDECREF(scores);
    return done;
}

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", "SAB on the CPU, compiled: operations and their arguments.", -1,
                      methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

const Kernels& kernels_in_use() { return *chosen.kernels; }

}  // namespace sab

PyMODINIT_FUNC PyInit__native() {
    sab::find_team();
    PyObject* module = PyModule_Create(&sab::module);
    if (module != nullptr && !(sab::find_names() && sab::add_operations(module) && sab::add_scores(module))) Py_CLEAR(module);
    return module;
}
