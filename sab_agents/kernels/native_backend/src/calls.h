// What every call from Python begins with: its arguments, and leave to run without the interpreter's lock.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <cstring>
#include <new>

namespace sab {

static_assert(sizeof(void*) == sizeof(int64_t), "addresses are passed as 64-bit integers");

// Fills a struct of 64-bit fields from as many integers in order, or from two: the address of a struct and the number of
// its fields. False with a Python error set.
template <class Arguments>
bool parse(PyObject* const* given, Py_ssize_t count, Arguments& arguments) {
    constexpr Py_ssize_t fields = sizeof(Arguments) / sizeof(int64_t);
    constexpr Py_ssize_t room = fields > 2 ? fields : 2;
    if (count != fields && count != 2) {
        PyErr_Format(PyExc_TypeError, "expected %zd integers, got %zd", fields, count);
        return false;
    }
    int64_t values[room];
    for (Py_ssize_t i = 0; i < count; ++i) {
        values[i] = PyLong_AsLongLong(given[i]);
        if (values[i] == -1 && PyErr_Occurred()) return false;
    }
    if (count == fields) {
        std::memcpy(&arguments, values, sizeof arguments);
        return true;
    }
    if (values[1] != fields) {
        PyErr_Format(PyExc_TypeError, "expected %zd fields, got %lld", fields, static_cast<long long>(values[1]));
        return false;
    }
    std::memcpy(&arguments, reinterpret_cast<const void*>(values[0]), sizeof arguments);
    return true;
}

// Without the interpreter lock. False where there is not enough memory.
template <class Work>
bool without_lock(const Work& work) {
    bool enough_memory = true;
    Py_BEGIN_ALLOW_THREADS
    try {
        work();
    } catch (const std::bad_alloc&) {
        enough_memory = false;
    }
    Py_END_ALLOW_THREADS
    return enough_memory;
}

}  // namespace sab
