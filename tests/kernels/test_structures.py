"""Arguments of the native kernel are set by name, and whatever is wrong with a name or an array raises."""

from __future__ import annotations

import ast
import copy
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from sab_agents.kernels import Reading, native_backend
from sab_agents.kernels.native_backend.agent import head_gradient
from sab_agents.kernels.native_backend.extension import native
from sab_agents.kernels.native_backend.tape import SentParts, Sizes, TapeParts, layout
from tests.kernels.extension import needs_native

pytestmark = needs_native
FOLDER = Path(native_backend.__file__).parent


class Field(NamedTuple):
    """A row of an operation's `fields`."""

    name: str
    type: str
    optional: bool
    result: bool
    offset: int
    size: int
    inner: tuple[Any, ...]

    @property
    def is_array(self) -> bool:
        return self.type.endswith("[]")


OPERATIONS: dict[str, Any] = {name: each for name, each in vars(native).items() if hasattr(each, "fields")}


def fields_of(operation: Any) -> list[Field]:
    return [Field(*row) for row in operation.fields]


class Group:
    """Something with an attribute for each field of a group."""

    def __init__(self, fields: tuple[Any, ...], offset: int) -> None:
        for row in fields:
            setattr(self, row[0], value_of(Field(*row), offset))


def value_of(field: Field, offset: int = 0) -> Any:
    """A value that no other field of the structure has."""
    number = offset + field.offset + 1
    if field.inner:
        return Group(field.inner, offset + field.offset)
    if field.is_array:
        return number
    if field.type in OPERATIONS:
        return OPERATIONS[field.type](**values_of(OPERATIONS[field.type]))
    return float(number) if field.type == "float64" else number


def values_of(operation: Any) -> dict[str, Any]:
    return {field.name: value_of(field) for field in fields_of(operation) if not field.result}


def read(value: Any, field: Field) -> Any:
    """What is read back where `value` was set."""
    return {row[0]: getattr(value, row[0]) for row in field.inner} if field.inner else value


CASES = [(name, field) for name, operation in OPERATIONS.items() for field in fields_of(operation)]
SETTABLE = [case for case in CASES if not case[1].result]


def name_of(case: Any) -> str:
    return case if isinstance(case, str) else str(case.name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_field_is_set_by_its_name_in_any_order(name: str) -> None:
    operation, values = OPERATIONS[name], values_of(OPERATIONS[name])
    at_once = operation(**dict(reversed(values.items())))
    later = operation()
    for key, value in values.items():
        setattr(later, key, value)
    for field in fields_of(operation):
        if not field.result:
            expected = read(values[field.name], field)
            assert getattr(at_once, field.name) == expected
            assert getattr(later, field.name) == expected


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_name_that_an_operation_does_not_have_raises(name: str) -> None:
    operation = OPERATIONS[name]
    with pytest.raises(TypeError, match=f"{name} has no argument named 'another'"):
        operation(another=1)
    with pytest.raises(AttributeError, match="another"):
        operation().another = 1
    with pytest.raises(TypeError, match="named arguments only"):
        operation(1)


@pytest.mark.parametrize(("name", "field"), SETTABLE, ids=name_of)
def test_a_name_that_is_left_out_raises_at_run(name: str, field: Field) -> None:
    values = values_of(OPERATIONS[name])
    del values[field.name]
    with pytest.raises(TypeError, match=rf"not: {name}\.{field.name}"):
        OPERATIONS[name](**values).run()


@pytest.mark.parametrize(("name", "field"), SETTABLE, ids=name_of)
def test_none_is_for_what_may_be_absent_alone(name: str, field: Field) -> None:
    arguments = OPERATIONS[name]()
    if field.optional:
        setattr(arguments, field.name, None)
        found = getattr(arguments, field.name)
        assert found is None or set(found.values()) == {None}
    else:
        with pytest.raises((TypeError, AttributeError)):
            setattr(arguments, field.name, None)


def test_a_group_without_one_of_its_names_raises() -> None:
    with pytest.raises(AttributeError, match="bias_ih"):
        native.Step(projection=object.__new__(type("Half", (), {"weight_ih": 64})))


def test_arrays_are_tensors_parts_of_them_or_empty() -> None:
    x = torch.tensor([3.0, 4.0, 12.0])
    assert native.Norm(count=2, x=x).run() == 5.0
    assert native.Norm(count=1, x=(x, 2)).run() == 12.0
    assert native.Norm(count=0, x=()).run() == 0.0
    assert native.Norm(count=0, x=torch.empty(0)).run() == 0.0
    assert native.Norm(count=2, x=x.data_ptr()).run() == 5.0
    with pytest.raises(ValueError, match="but is 0"):
        native.Norm(x=0)
    for wrong in ("x", 1.5, (x,), (x, 1, 2), (None, 1), [x]):
        with pytest.raises(TypeError):
            native.Norm(x=wrong)


def test_numbers_are_numbers() -> None:
    for wrong in (1.5, "1", torch.ones(1)):
        with pytest.raises(TypeError, match=r"Norm\.count must be an integer"):
            native.Norm(count=wrong)
    with pytest.raises(TypeError, match=r"Descent\.delta must be a number"):
        native.Descent(delta="1")
    with pytest.raises(TypeError, match=r"TakeSteps\.step must be Step"):
        native.TakeSteps(step=native.Take())


def test_results_are_read_and_not_set() -> None:
    with pytest.raises(TypeError, match="is a result"):
        native.Descent(step_size=1.0)
    with pytest.raises(AttributeError):
        native.Descent().norm = 1.0


def test_what_arguments_name_lives_as_long_as_they_do() -> None:
    arguments = native.Norm(count=1 << 12, x=torch.ones(1 << 12))
    arguments_of_a_part = native.Norm(count=1 << 12, x=(torch.ones(1 << 13), 1 << 12))
    others = [torch.zeros(1 << size) for size in (12, 13) for _ in range(8)]
    assert arguments.run() == 64.0
    assert arguments_of_a_part.run() == 64.0
    assert len(others) == 16


def test_arguments_cannot_be_copied() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.copy(native.Norm())


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_a_window_without_targets_has_no_gradient(loss: str) -> None:
    weight, bias = torch.ones(2, 6, requires_grad=True), torch.zeros(2, requires_grad=True)
    weight.grad, bias.grad = torch.zeros(2, 6), torch.zeros(2)
    nowhere = torch.zeros(0, dtype=torch.int64)
    target = nowhere if loss == "cross_entropy" else torch.zeros(0, 2)
    dirty = torch.full((4, 1, 6), torch.nan)
    del dirty
    gradient = head_gradient(loss, weight, bias, torch.ones(4, 1, 6), nowhere, target)
    assert gradient is not None
    assert torch.equal(gradient, torch.zeros(4, 1, 6))
    assert torch.equal(weight.grad, torch.zeros(2, 6))


def test_a_window_whose_places_are_not_said_has_targets_everywhere() -> None:
    weight, bias = torch.ones(2, 6, requires_grad=True), torch.zeros(2, requires_grad=True)
    gradient = head_gradient("squared_error", weight, bias, torch.ones(4, 1, 6), None, torch.zeros(4, 2))
    assert gradient is not None
    assert (gradient != 0).all()


def test_parts_of_a_layout_do_not_meet() -> None:
    lies = layout(Sizes.of(5, 3, 2, 7, 4, 6, Reading(top_k=2, age=True, gate=True, stored="cell")))
    assert len(lies.places) == len(TapeParts._fields) + len(SentParts._fields)
    for end, following in zip(lies.ends, [*lies.places[1:], lies.floats], strict=True):
        assert end <= following < end + 16
    some = layout(Sizes.of(5, 3, 2, 7, 4, 6, Reading(top_k=2)), tape=("cell",), sent=())
    assert some.floats == 6 * 3 * 7 // 16 * 16 + 16


def test_no_python_file_mirrors_an_offset() -> None:
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"ctypes", "struct"} & set(names), file.name


PROBE = """
#include "binding.h"
namespace sab {
struct Probe {
    STRUCTURE(Probe);
#if defined(SWAPPED)
    FIELD(int64_t, second);
    FIELD(int64_t, first);
#elif defined(RENAMED)
    FIELD(int64_t, one);
    FIELD(int64_t, second);
    int64_t both() const { return 10 * one + second; }
#elif defined(HIDDEN)
    FIELD(int64_t, first);
    int64_t hidden;
    FIELD(int64_t, second);
#else
    FIELD(int64_t, first);
    FIELD(int64_t, second);
#endif
#if !defined(RENAMED)
    int64_t both() const { return 10 * first + second; }
#endif
};
int64_t probe(const Probe& of) { return of.both(); }
const Operation probing = operation<probe>("Two numbers in one.");
PyModuleDef module = {PyModuleDef_HEAD_INIT, "probe", "", -1, nullptr, nullptr, nullptr, nullptr, nullptr};
}
PyMODINIT_FUNC PyInit_probe() {
    PyObject* made = PyModule_Create(&sab::module);
    PyModule_AddObjectRef(made, "Probe", sab::make_type(sab::probing));
    return made;
}
"""
COMPILER = shutil.which((sysconfig.get_config_var("CXX") or "c++").split()[0])
needs_compiler = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux"), reason="builds an extension as it is built on Linux"
)


def compiled(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    headers = sysconfig.get_path("include")
    command = [
        str(COMPILER),
        "-std=c++17",
        "-fvisibility=hidden",
        "-fPIC",
        f"-I{FOLDER / 'src'}",
        f"-I{headers}",
        *arguments,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def binding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every structure is bound by, compiled."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.cpp").write_text(PROBE)
    made = compiled(folder, "-c", str(FOLDER / "src" / "binding.cpp"), "-o", "binding.o")
    assert made.returncode == 0, made.stderr
    return folder


def probe(folder: Path, *defined: str) -> ModuleType:
    """The extension whose structure has its fields as `defined` says."""
    file = folder / f"{'_'.join(defined) or 'plain'}.so"
    made = compiled(folder, "-shared", *(f"-D{name}" for name in defined), "probe.cpp", "binding.o", "-o", str(file))
    assert made.returncode == 0, made.stderr
    spec = importlib.util.spec_from_file_location("probe", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_compiler
def test_fields_that_change_places_in_cpp_keep_their_names(binding: Path) -> None:
    plain, swapped = probe(binding), probe(binding, "SWAPPED")
    assert [row[0] for row in plain.Probe.fields] == ["first", "second"]
    assert [row[0] for row in swapped.Probe.fields] == ["second", "first"]
    assert plain.Probe(first=3, second=5).run() == swapped.Probe(first=3, second=5).run() == 35


@needs_compiler
def test_a_field_that_is_renamed_in_cpp_raises(binding: Path) -> None:
    renamed = probe(binding, "RENAMED")
    with pytest.raises(TypeError, match="Probe has no argument named 'first'"):
        renamed.Probe(first=3, second=5)
    with pytest.raises(TypeError, match=r"not: Probe\.one"):
        renamed.Probe(second=5).run()


@needs_compiler
def test_a_member_that_python_would_not_know_does_not_compile(binding: Path) -> None:
    made = compiled(binding, "-fsyntax-only", "-DHIDDEN", "probe.cpp")
    assert made.returncode != 0
    assert "not declared by FIELD" in made.stderr
