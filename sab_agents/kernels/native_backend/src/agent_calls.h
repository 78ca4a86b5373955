// The calls of streaming agents, for the module's table of methods.
#pragma once

#include "calls.h"

namespace sab {

PyObject* agent_readout(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* agent_readout_backward(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* agent_descend(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* agent_step_units(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* agent_credit_units(PyObject*, PyObject* const* given, Py_ssize_t count);

}  // namespace sab
