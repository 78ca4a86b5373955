// Python types from the tables of argument structures; `binding.h` says how they are used.

#include "binding.h"

#include <cstring>
#include <string>
#include <utility>

namespace sab {

namespace {

// A field that is no group: those of groups stand one after the other.
struct Leaf {
    Field field;
    size_t offset;     // in the whole structure
    PyObject* name;    // interned
    std::string path;  // for messages: "Forward.tape.gates"
};

// What Python names: one leaf, or a group of them.
struct Argument {
    PyObject* name;  // interned
    Field field;
    size_t first, count;  // leaves
};

constexpr size_t MOST_LEAVES = 128;

// Which leaves were set.
struct Marks {
    uint64_t words[MOST_LEAVES / 64];

    void set(size_t leaf) { words[leaf / 64] |= uint64_t{1} << leaf % 64; }
    bool has(size_t leaf) const { return (words[leaf / 64] >> leaf % 64 & 1) != 0; }
    bool operator==(const Marks& other) const { return std::memcmp(words, other.words, sizeof words) == 0; }
};

}  // namespace

struct Binding {
    const Operation operation;
    const Structure& structure;
    std::vector<Leaf> leaves;
    std::vector<Argument> arguments;
    std::vector<size_t> parts;  // leaves that are other operations' structures
    std::vector<PyGetSetDef> attributes;
    std::string type_name;
    Marks complete{};
    size_t owners = 0;  // where in an object the owners of its arrays are
    PyTypeObject* type = nullptr;
};

namespace {

// In memory: this, the structure, and for each leaf the Python object that its address was taken from, which so lives
// as long.
struct alignas(16) Object {
    PyObject_HEAD
    const Binding* binding;
    Marks set;

    char* structure() { return reinterpret_cast<char*>(this) + sizeof(Object); }
    PyObject** owners() { return reinterpret_cast<PyObject**>(reinterpret_cast<char*>(this) + binding->owners); }
};

Object* as_object(PyObject* self) { return reinterpret_cast<Object*>(self); }

std::vector<const Binding*> bindings;  // of all types
PyObject* data_ptr = nullptr;          // the name of the method that gives a tensor's address

// Where an array without elements lies.
alignas(64) char no_elements[64];

// Sets a TypeError in place of the error that is set.
bool refuse(const Leaf& leaf, const char* wanted, PyObject* value) {
    PyErr_Format(PyExc_TypeError, "%s must be %s, but is of type %.100s.", leaf.path.c_str(), wanted,
                 Py_TYPE(value)->tp_name);
    return false;
}

// An array's address, and the Python object that keeps it alive.
struct Place {
    char* address = nullptr;
    PyObject* owner = nullptr;
};

// Where a tensor begins. Without elements it has no address of its own, but is there.
bool begin_of(const Leaf& leaf, PyObject* tensor, Place& place) {
    PyObject* const number = PyObject_CallMethodNoArgs(tensor, data_ptr);
    if (number == nullptr)
        return PyErr_ExceptionMatches(PyExc_AttributeError) &&
               refuse(leaf, "a tensor, (tensor, offset), () or an address", tensor);
    place.address = static_cast<char*>(PyLong_AsVoidPtr(number));
    Py_DECREF(number);
    if (place.address == nullptr && PyErr_Occurred()) return false;
    if (place.address == nullptr) place.address = no_elements;
    place.owner = tensor;
    return true;
}

// The one place where null comes from: None, for an array that may be absent. `buffer` is the last tensor of which a
// part was taken: the parts of a buffer mostly come one after the other.
bool place_of(const Leaf& leaf, PyObject* value, Place& place, Place& buffer) {
    if (value == Py_None) {
        if (leaf.field.optional) return true;
        PyErr_Format(PyExc_TypeError, "%s must not be None: it is not optional.", leaf.path.c_str());
        return false;
    }
    if (PyLong_Check(value)) {
        place.address = static_cast<char*>(PyLong_AsVoidPtr(value));
        if (place.address != nullptr) return true;
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "%s must be an address, but is 0. None says that an array is absent.",
                         leaf.path.c_str());
        return false;
    }
    if (!PyTuple_CheckExact(value)) return begin_of(leaf, value, place);
    if (PyTuple_GET_SIZE(value) == 0) {
        place.address = no_elements;
        return true;
    }
    if (PyTuple_GET_SIZE(value) != 2) return refuse(leaf, "a tensor, (tensor, offset), () or an address", value);
    PyObject* const tensor = PyTuple_GET_ITEM(value, 0);
    const Py_ssize_t offset = PyLong_AsSsize_t(PyTuple_GET_ITEM(value, 1));
    if (offset == -1 && PyErr_Occurred()) return false;
    if (buffer.owner != tensor && !begin_of(leaf, tensor, buffer)) return false;
    place.address = buffer.address + offset * static_cast<Py_ssize_t>(leaf.field.element);
    place.owner = tensor;
    return true;
}

bool part_of(const Leaf& leaf, PyObject* value, Place& place) {
    for (const Binding* binding : bindings) {
        if (Py_TYPE(value) != binding->type || &binding->structure != &leaf.field.inner()) continue;
        place.address = as_object(value)->structure(), place.owner = value;
        return true;
    }
    return refuse(leaf, leaf.field.inner().name, value);
}

bool set_leaf(Object* self, size_t number, PyObject* value, Place& buffer) {
    const Leaf& leaf = self->binding->leaves[number];
    char* const to = self->structure() + leaf.offset;
    if (leaf.field.kind == Kind::integer) {
        const long long integer = PyLong_AsLongLong(value);
        if (integer == -1 && PyErr_Occurred())
            return PyErr_ExceptionMatches(PyExc_TypeError) && refuse(leaf, "an integer", value);
        std::memcpy(to, &integer, sizeof integer);
    } else if (leaf.field.kind == Kind::real) {
        const double real = PyFloat_AsDouble(value);
        if (real == -1.0 && PyErr_Occurred())
            return PyErr_ExceptionMatches(PyExc_TypeError) && refuse(leaf, "a number", value);
        std::memcpy(to, &real, sizeof real);
    } else {
        Place place;
        const bool done = leaf.field.kind == Kind::array ? place_of(leaf, value, place, buffer)
                                                         : part_of(leaf, value, place);
        if (!done) return false;
        std::memcpy(to, &place.address, sizeof place.address);
        Py_XINCREF(place.owner);
        Py_XSETREF(self->owners()[number], place.owner);
    }
    self->set.set(number);
    return true;
}

// A group is set from the attributes of any object that has those of its names.
bool set_group(Object* self, const Argument& argument, PyObject* value) {
    const bool absent = value == Py_None && argument.field.optional;
    Place buffer;
    for (size_t i = 0; i < argument.count; ++i) {
        const size_t number = argument.first + i;
        if (absent) {
            std::memset(self->structure() + self->binding->leaves[number].offset, 0, sizeof(void*));
            Py_CLEAR(self->owners()[number]);
            self->set.set(number);
            continue;
        }
        PyObject* const inner = PyObject_GetAttr(value, self->binding->leaves[number].name);
        if (inner == nullptr) return false;
        const bool done = set_leaf(self, number, inner, buffer);
        Py_DECREF(inner);
        if (!done) return false;
    }
    return true;
}

bool set_argument(Object* self, const Argument& argument, PyObject* value) {
    if (argument.field.kind == Kind::group) return set_group(self, argument, value);
    Place buffer;
    return set_leaf(self, argument.first, value, buffer);
}

PyObject* leaf_value(Object* self, size_t number) {
    const Leaf& leaf = self->binding->leaves[number];
    const char* const from = self->structure() + leaf.offset;
    if (leaf.field.kind == Kind::real) {
        double real;
        std::memcpy(&real, from, sizeof real);
        return PyFloat_FromDouble(real);
    }
    int64_t integer;
    std::memcpy(&integer, from, sizeof integer);
    if (leaf.field.kind == Kind::integer) return PyLong_FromLongLong(integer);
    if (integer == 0) Py_RETURN_NONE;
    PyObject* const owner = self->owners()[number];
    return owner == nullptr ? PyLong_FromLongLong(integer) : Py_NewRef(owner);
}

// A number, the object that was set, or a dictionary of a group's.
PyObject* get_attribute(PyObject* object, void* closure) {
    const Argument& argument = *static_cast<const Argument*>(closure);
    Object* const self = as_object(object);
    if (argument.field.kind != Kind::group) return leaf_value(self, argument.first);
    PyObject* const values = PyDict_New();
    for (size_t i = argument.first; values != nullptr && i < argument.first + argument.count; ++i) {
        PyObject* const value = leaf_value(self, i);
        const bool done = value != nullptr && PyDict_SetItem(values, self->binding->leaves[i].name, value) == 0;
        Py_XDECREF(value);
        if (done) continue;
        Py_DECREF(values);
        return nullptr;
    }
    return values;
}

int set_attribute(PyObject* object, PyObject* value, void* closure) {
    const Argument& argument = *static_cast<const Argument*>(closure);
    if (value == nullptr) {
        PyErr_Format(PyExc_TypeError, "%s.%U cannot be deleted.", as_object(object)->binding->structure.name,
                     argument.name);
        return -1;
    }
    return set_argument(as_object(object), argument, value) ? 0 : -1;
}

// The argument of this name; `expected` is tried first: names mostly come in the order of the fields.
const Argument* argument_named(const Binding& binding, PyObject* name, size_t expected) {
    const std::vector<Argument>& arguments = binding.arguments;
    if (expected < arguments.size() && arguments[expected].name == name) return &arguments[expected];
    for (const Argument& argument : arguments)
        if (argument.name == name) return &argument;
    for (const Argument& argument : arguments)  // names that are made at run time are not interned
        if (PyUnicode_Compare(argument.name, name) == 0) return &argument;
    PyErr_Format(PyExc_TypeError, "%s has no argument named %R.", binding.structure.name, name);
    return nullptr;
}

// Whether everything is set, in other operations' structures too; else a Python error says what is not.
bool complete(Object* self) {
    const Binding& binding = *self->binding;
    if (!(self->set == binding.complete)) {
        std::string missing;
        for (size_t i = 0; i < binding.leaves.size(); ++i)
            if (binding.complete.has(i) && !self->set.has(i))
                missing += (missing.empty() ? "" : ", ") + binding.leaves[i].path;
        PyErr_Format(PyExc_TypeError, "Every argument must be set before run, but these are not: %s.", missing.c_str());
        return false;
    }
    for (const size_t part : binding.parts)
        if (!complete(as_object(self->owners()[part]))) return false;
    return true;
}

PyObject* run(PyObject* object, PyObject*) {
    Object* const self = as_object(object);
    return complete(self) ? self->binding->operation.run(self->structure()) : nullptr;
}

int traverse(PyObject* object, visitproc visit, void* arg) {
    Object* const self = as_object(object);
    Py_VISIT(Py_TYPE(object));
    for (size_t i = 0; i < self->binding->leaves.size(); ++i) Py_VISIT(self->owners()[i]);
    return 0;
}

int clear(PyObject* object) {
    Object* const self = as_object(object);
    self->set = {};
    for (size_t i = 0; i < self->binding->leaves.size(); ++i) Py_CLEAR(self->owners()[i]);
    return 0;
}

void deallocate(PyObject* object) {
    PyTypeObject* const type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

bool append_leaf(Binding& binding, const Field& field, size_t offset, const std::string& path) {
    PyObject* const name = PyUnicode_InternFromString(field.name);
    if (name == nullptr) return false;
    const size_t number = binding.leaves.size();
    if (!field.result) binding.complete.set(number);
    if (field.kind == Kind::part) binding.parts.push_back(number);
    binding.leaves.push_back({field, offset, name, path});
    return true;
}

// Fills in leaves, arguments and attributes.
bool describe(Binding& binding) {
    for (const Field& field : binding.structure.fields) {
        const std::string path = std::string(binding.structure.name) + "." + field.name;
        PyObject* const name = PyUnicode_InternFromString(field.name);
        if (name == nullptr) return false;
        const size_t first = binding.leaves.size();
        if (field.kind == Kind::group) {
            for (const Field& inner : field.inner().fields)
                if (!append_leaf(binding, inner, field.offset + inner.offset, path + "." + inner.name)) return false;
        } else if (!append_leaf(binding, field, field.offset, path)) {
            return false;
        }
        binding.arguments.push_back({name, field, first, binding.leaves.size() - first});
    }
    if (binding.leaves.size() > MOST_LEAVES) {
        PyErr_Format(PyExc_SystemError, "%s has more than %zu fields.", binding.structure.name, MOST_LEAVES);
        return false;
    }
    for (Argument& argument : binding.arguments)
        binding.attributes.push_back({argument.field.name, get_attribute,
                                      argument.field.result ? nullptr : set_attribute,
                                      nullptr, &argument});
    binding.attributes.push_back({nullptr, nullptr, nullptr, nullptr, nullptr});
    return true;
}

std::string type_of(const Field& field) {
    if (field.kind == Kind::group || field.kind == Kind::part) return field.inner().name;
    return std::string(field.type) + (field.kind == Kind::array ? "[]" : "");
}

// Name, type, whether it may be absent, whether it is a result, offset and size of each field, and so of a group's.
PyObject* table_of(const Structure& structure) {
    PyObject* const table = PyTuple_New(static_cast<Py_ssize_t>(structure.fields.size()));
    for (size_t i = 0; table != nullptr && i < structure.fields.size(); ++i) {
        const Field& field = structure.fields[i];
        PyObject* const inner = field.kind == Kind::group ? table_of(field.inner()) : PyTuple_New(0);
        PyObject* const row =
            inner == nullptr ? nullptr
                             : Py_BuildValue("(ssNNnnN)", field.name, type_of(field).c_str(),
                                             PyBool_FromLong(field.optional), PyBool_FromLong(field.result),
                                             static_cast<Py_ssize_t>(field.offset),
                                             static_cast<Py_ssize_t>(field.size), inner);
        if (row == nullptr) {
            Py_DECREF(table);
            return nullptr;
        }
        PyTuple_SET_ITEM(table, static_cast<Py_ssize_t>(i), row);
    }
    return table;
}

PyMethodDef methods[] = {
    {"run", run, METH_NOARGS, "Calls the operation; every argument must have been set."},
    {nullptr, nullptr, 0, nullptr},
};

template <class Function>
void* as_slot(Function function) {
    return reinterpret_cast<void*>(function);
}

}  // namespace

PyObject* construct(const Binding& binding, PyObject* const* values, size_t count, PyObject* names) {
    if (PyVectorcall_NARGS(count) != 0)
        return PyErr_Format(PyExc_TypeError, "%s takes named arguments only.", binding.structure.name);
    PyObject* const object = binding.type->tp_alloc(binding.type, 0);
    if (object == nullptr) return nullptr;
    Object* const self = as_object(object);
    self->binding = &binding;
    binding.operation.initialise(self->structure());
    const size_t given = names == nullptr ? 0 : static_cast<size_t>(PyTuple_GET_SIZE(names));
    for (size_t i = 0; i < given; ++i) {
        PyObject* const name = PyTuple_GET_ITEM(names, static_cast<Py_ssize_t>(i));
        const Argument* const argument = argument_named(binding, name, i);
        bool done = argument != nullptr;
        if (done && argument->field.result) {
            PyErr_Format(PyExc_TypeError, "%s.%U is a result and cannot be set.", binding.structure.name, name);
            done = false;
        }
        if (done && set_argument(self, *argument, values[i])) continue;
        Py_DECREF(object);
        return nullptr;
    }
    return object;
}

PyObject* make_type(const Operation& operation) {
    if (data_ptr == nullptr && (data_ptr = PyUnicode_InternFromString("data_ptr")) == nullptr) return nullptr;
    const Structure& structure = operation.structure();
    Binding* const binding = new Binding{operation, structure, {}, {}, {}, {}, {}};  // as long as the process
    if (!describe(*binding)) return nullptr;
    binding->type_name = std::string("sab_agents.kernels.native_backend._native.") + structure.name;
    binding->owners = sizeof(Object) + structure.size;
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>(operation.doc)},
        {Py_tp_dealloc, as_slot(deallocate)},
        {Py_tp_traverse, as_slot(traverse)},
        {Py_tp_clear, as_slot(clear)},
        {Py_tp_getset, binding->attributes.data()},
        {Py_tp_methods, methods},
        {0, nullptr},
    };
    PyType_Spec spec = {binding->type_name.c_str(),
                        static_cast<int>(binding->owners + binding->leaves.size() * sizeof(PyObject*)), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (type == nullptr) return nullptr;
    binding->type = reinterpret_cast<PyTypeObject*>(type);
    binding->type->tp_vectorcall = operation.construct;
    PyObject* const table = table_of(structure);
    const bool done = table != nullptr && PyObject_SetAttrString(type, "fields", table) == 0;
    Py_XDECREF(table);
    if (!done) {
        Py_DECREF(type);
        return nullptr;
    }
    *operation.binding = binding;
    bindings.push_back(binding);
    return type;
}

}  // namespace sab
