// Operations as Python types. `Count(rows=…, start=None, …)` holds an argument structure whose fields are set by name, at
// once or later as attributes, and `run()` calls the operation. Every field must have been set by then; a name that the
// structure does not have is an error at once.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <new>
#include <type_traits>

#include "structure.h"

namespace sab {

struct Binding;  // what a Python type knows of its structure

struct Operation {
    const Structure& (*structure)();
    const char* doc;
    const Binding** binding;  // where the type's goes, once it is made
    vectorcallfunc construct;
    void (*initialise)(void* structure);
    PyObject* (*run)(void* structure);
};

// The type of an operation, a new reference; null with a Python error set.
PyObject* make_type(const Operation& operation);

PyObject* construct(const Binding& binding, PyObject* const* values, size_t count, PyObject* names);

inline PyObject* to_python(bool value) { return PyBool_FromLong(value); }
inline PyObject* to_python(int64_t value) { return PyLong_FromLongLong(value); }
inline PyObject* to_python(double value) { return PyFloat_FromDouble(value); }

enum class Lock { released, kept };  // the interpreter's, while the operation runs: kept where that takes microseconds

template <auto FUNCTION, Lock LOCK>
struct Call;

template <class R, class Arguments, R (*FUNCTION)(Arguments&), Lock LOCK>
struct Call<FUNCTION, LOCK> {
    using S = std::remove_const_t<Arguments>;
    static inline const Binding* binding = nullptr;

    static PyObject* construct(PyObject*, PyObject* const* values, size_t count, PyObject* names) {
        return sab::construct(*binding, values, count, names);
    }

    static void initialise(void* structure) { new (structure) S{}; }

    static PyObject* run(void* structure) {
        S& arguments = *static_cast<S*>(structure);
        PyThreadState* const state = LOCK == Lock::released ? PyEval_SaveThread() : nullptr;
        bool enough_memory = true;
        std::conditional_t<std::is_void_v<R>, bool, R> result{};
        try {
            if constexpr (std::is_void_v<R>) FUNCTION(arguments);
            else result = FUNCTION(arguments);
        } catch (const std::bad_alloc&) {
            enough_memory = false;
        }
        if (state != nullptr) PyEval_RestoreThread(state);
        if (!enough_memory) return PyErr_NoMemory();
        if constexpr (std::is_void_v<R>) Py_RETURN_NONE;
        else return to_python(result);
    }
};

template <auto FUNCTION, Lock LOCK = Lock::released>
Operation operation(const char* doc) {
    using Of = Call<FUNCTION, LOCK>;
    return {structure_of<typename Of::S>, doc, &Of::binding, Of::construct, Of::initialise, Of::run};
}

}  // namespace sab
