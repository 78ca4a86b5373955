// Argument structures that describe themselves. Each is defined once, in C++; from the table of its fields Python sets
// them by name.
//
//     struct Count {
//         STRUCTURE(Count);
//         FIELD(int64_t, rows);
//         FIELD(Optional<const uint8_t>, start);  // (T, B)
//         FIELD(const int64_t*, before);          // (B)
//     };
//
// Every member is a FIELD on a line of its own; a member that is not fails to compile where the table is built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace sab {

static_assert(sizeof(void*) == sizeof(int64_t), "every field is 64 bits wide or made of such fields");

struct Structure;

enum class Kind { integer, real, array, group, part };

struct Field {
    const char* name = nullptr;  // null: no field
    const char* type = nullptr;  // "int64" or "float64" of a number, of an array that of its elements; else see `inner`
    Kind kind = Kind::integer;
    bool optional = false;       // may be absent: Python gives None, and every pointer in it is null
    bool result = false;         // written by the operation, not by its caller
    size_t offset = 0, size = 0;
    size_t element = 0;          // bytes of one element of an array
    const Structure& (*inner)() = nullptr;  // of a group and of a part
};

struct Structure {
    const char* name;
    size_t size;
    std::vector<Field> fields;
};

template <class S>
const Structure& structure_of();

template <class T, class = void>
struct IsStructure : std::false_type {};
template <class T>
struct IsStructure<T, std::void_t<decltype(T::FIRST_LINE)>> : std::true_type {};

// What may be absent. Of elements: their address, or null. Of a structure: all of its fields, or nulls.
template <class T, bool = IsStructure<T>::value>
struct Optional {
    T* address = nullptr;

    Optional() = default;
    Optional(T* at) : address(at) {}
    operator T*() const { return address; }
};
template <class S>
struct Optional<S, true> : S {};
template <class S>
struct IsStructure<Optional<S, true>> : std::false_type {};

// A number that the operation leaves for its caller to read.
template <class T>
struct Result {
    T value = 0;

    operator T() const { return value; }
    Result& operator=(T to) {
        value = to;
        return *this;
    }
};

template <class T>
constexpr const char* type_name() {
    using Plain = std::remove_const_t<T>;
    if (std::is_same_v<Plain, float>) return "float32";
    if (std::is_same_v<Plain, double>) return "float64";
    if (std::is_same_v<Plain, int64_t>) return "int64";
    if (std::is_same_v<Plain, uint8_t>) return "uint8";  // flags, too
    return std::is_void_v<Plain> ? "any" : nullptr;
}

template <class T>
constexpr Field number_field(bool result) {
    static_assert(std::is_same_v<T, int64_t> || std::is_same_v<T, double>, "numbers are int64_t or double");
    Field field;
    field.kind = std::is_same_v<T, double> ? Kind::real : Kind::integer;
    field.type = type_name<T>(), field.size = sizeof(T), field.result = result;
    return field;
}

template <class T>
constexpr Field array_field(bool optional) {
    Field field;
    field.kind = Kind::array;
    field.type = type_name<T>(), field.size = sizeof(T*), field.optional = optional;
    if constexpr (std::is_void_v<std::remove_const_t<T>>) field.element = 1;
    else field.element = sizeof(T);
    return field;
}

template <class S>
constexpr Field structure_field(Kind kind, size_t size, bool optional) {
    Field field;
    field.kind = kind;
    field.inner = structure_of<S>, field.size = size, field.optional = optional;
    return field;
}

// How a member of type T is described; types without a specialisation cannot be fields.
template <class T, class = void>
struct Description;
template <class T>
struct Description<T, std::enable_if_t<std::is_arithmetic_v<T>>> {
    static constexpr Field field() { return number_field<T>(false); }
};
template <class T>
struct Description<Result<T>> {
    static constexpr Field field() { return number_field<T>(true); }
};
template <class T>
struct Description<T*, std::enable_if_t<!IsStructure<T>::value>> {
    static constexpr Field field() { return array_field<T>(false); }
};
template <class T>
struct Description<Optional<T, false>> {
    static constexpr Field field() { return array_field<T>(true); }
};
template <class S>
struct Description<S, std::enable_if_t<IsStructure<S>::value>> {
    static constexpr Field field() { return structure_field<S>(Kind::group, sizeof(S), false); }
};
template <class S>
struct Description<Optional<S, true>> {
    static constexpr Field field() { return structure_field<S>(Kind::group, sizeof(S), true); }
};
template <class S>
struct Description<const S*, std::enable_if_t<IsStructure<S>::value>> {
    static constexpr Field field() { return structure_field<S>(Kind::part, sizeof(S*), false); }
};

template <class T>
constexpr Field field_named(const char* name, size_t offset) {
    Field field = Description<T>::field();
    field.name = name, field.offset = offset;
    return field;
}

template <int LINE>
struct Line {};

#define STRUCTURE(Name)                                                                \
    using Self = Name;                                                                 \
    static constexpr const char* NAME = #Name;                                         \
    static constexpr int FIRST_LINE = __LINE__;                                        \
    template <int LINE>                                                                \
    static constexpr ::sab::Field field_at(::sab::Line<LINE>) {                        \
        return {};                                                                     \
    }                                                                                  \
    static_assert(true, "")

#define FIELD(Type, name)                                                              \
    static constexpr ::sab::Field field_at(::sab::Line<__LINE__>) {                    \
        return ::sab::field_named<Type>(#name, offsetof(Self, name));                  \
    }                                                                                  \
    Type name

// Appends the fields of S from line LINE on; those before it fill BYTES bytes.
template <class S, int LINE, size_t BYTES>
void append_fields(std::vector<Field>& fields) {
    constexpr Field field = S::field_at(Line<LINE>{});
    static_assert(field.name == nullptr || field.offset == BYTES, "a member of a structure is not declared by FIELD");
    static_assert(LINE < S::FIRST_LINE + 200, "the last member of a structure is not declared by FIELD");
    if (field.name != nullptr) fields.push_back(field);
    constexpr size_t end = field.name == nullptr ? BYTES : field.offset + field.size;
    if constexpr (end < sizeof(S)) append_fields<S, LINE + 1, end>(fields);
}

template <class S>
const Structure& structure_of() {
    static_assert(std::is_standard_layout_v<S>, "offsets are those of a plain structure");
    static const Structure structure = [] {
        Structure made{S::NAME, sizeof(S), {}};
        append_fields<S, S::FIRST_LINE, 0>(made.fields);
        return made;
    }();
    return structure;
}

}  // namespace sab
