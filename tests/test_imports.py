"""Dependencies point down only: the imports of every module are read and compared with what its layer may use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# For each layer, the layers of this project and the packages that its modules may import; the standard library is free.
ALLOWED = {
    "sab_agents": {
        *("sab_agents.core", "sab_agents.streaming", "sab_agents.envs", "sab_agents.online", "sab_agents.ppo"),
        *("sab_agents.vec_env", "sab_agents.train"),
    },
    "sab_agents.checks": {"numpy"},
    "sab_agents.zoo": {"sab_agents.checks", "sab_agents.ppo", "rl_zoo3"},
    "sab_agents.tracking": {"numpy", "stable_baselines3", "wandb", "mlflow"},
    "sab_agents.distributed": {"torch"},
    "sab_agents.checkpoint": {
        *("sab_agents.checks", "torch", "numpy", "gymnasium", "safetensors"),
        "stable_baselines3",  # its schedules and extractors are named in files
    },
    "sab_agents.kernels": {"sab_agents.checks", "torch", "triton"},
    "sab_agents.core": {"sab_agents.checks", "sab_agents.kernels", "torch"},
    "sab_agents.optim": {"sab_agents.checks", "sab_agents.distributed", "sab_agents.kernels", "torch"},
    "sab_agents.streaming": {"sab_agents.checks", "sab_agents.core", "sab_agents.kernels", "torch"},
    "sab_agents.online": {
        *("sab_agents.checks", "sab_agents.core", "sab_agents.streaming", "sab_agents.optim", "sab_agents.kernels"),
        *("sab_agents.checkpoint", "sab_agents.vec_env", "torch", "numpy", "gymnasium", "stable_baselines3"),
        "safetensors",
    },
    "sab_agents.ppo": {
        *("sab_agents.checks", "sab_agents.core", "sab_agents.streaming", "sab_agents.optim", "sab_agents.kernels"),
        *(
            "sab_agents.distributed",
            "sab_agents.checkpoint",
            "sab_agents.vec_env",
            "torch",
            "numpy",
            "gymnasium",
            "stable_baselines3",
        ),
    },
    "sab_agents.river": {"sab_agents.checks", "sab_agents.kernels", "sab_agents.online", "torch", "numpy", "river"},
    "sab_agents.envs": {"sab_agents.checks", "gymnasium", "numpy", "pooch", "sklearn"},
    "sab_agents.vec_env": {"sab_agents.checks", "sab_agents.envs", "gymnasium", "numpy", "stable_baselines3"},
    "sab_agents.train": {
        *("sab_agents", "sab_agents.checks", "sab_agents.checkpoint", "sab_agents.core", "sab_agents.streaming"),
        *("sab_agents.optim", "sab_agents.kernels", "sab_agents.envs", "sab_agents.online", "sab_agents.ppo"),
        "sab_agents.distributed",
        *("sab_agents.vec_env", "torch", "numpy", "gymnasium", "rich", "matplotlib", "jsonargparse", "yaml"),
        *("safetensors", "stable_baselines3", "sab_agents.tracking"),
        "PIL",  # which matplotlib requires
        # Of the extra peers, each in one module that is imported when its side is asked for.
        *("skrl", "torchrl", "tensordict"),
    },
}
FOLDERS = {"sab_agents.envs": "envs", "sab_agents.train": "train"}


def layer_of(module: str) -> str:
    """The longest layer name that the module's name begins with."""
    return max((name for name in ALLOWED if module == name or module.startswith(name + ".")), key=len)


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of the modules that a source file imports, those for type checking alone left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        else:
            yield from imported(node)


def violations(layer: str, source: str) -> list[str]:
    """What a module of the layer imports and may not."""
    found = []
    for name in imported(ast.parse(source)):
        package = name.split(".")[0]
        target = layer_of(name) if package == "sab_agents" else package
        if package not in sys.stdlib_module_names and target != layer and target not in ALLOWED[layer]:
            found.append(name)
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for layer in ALLOWED:
        folder = ROOT / FOLDERS.get(layer, layer.replace(".", "/"))
        if layer == "sab_agents":
            paths = [path for path in folder.glob("*.py") if f"{layer}.{path.stem}" not in ALLOWED]
        elif folder.is_dir():
            paths = list(folder.rglob("*.py"))
        else:  # a layer of one module
            paths = [folder.with_suffix(".py")]
        found += [(layer, path) for path in sorted(paths)]
    return found


@pytest.mark.parametrize(("layer", "path"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_a_module_imports_only_what_its_layer_may(layer: str, path: Path) -> None:
    assert violations(layer, path.read_text(encoding="utf-8")) == []


def test_every_module_is_looked_at() -> None:
    tracked = {path for folder in ("sab_agents", "envs", "train") for path in (ROOT / folder).rglob("*.py")}
    links = (ROOT / "sab_agents" / "envs", ROOT / "sab_agents" / "train")
    own = {path for path in tracked if not any(link in path.parents for link in links)}
    assert {path for _, path in modules()} == own


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("sab_agents.core", "import numpy"),
        ("sab_agents.core", "from sab_agents.train.loop import train"),
        ("sab_agents.kernels", "from sab_agents.core.sab import SAB"),
        ("sab_agents.envs", "def f():\n    import torch"),
    ],
)
def test_an_upward_import_is_found(layer: str, source: str) -> None:
    assert violations(layer, source)


def sources() -> dict[str, str]:
    """The text of every module of the project by its full name; a package's is that of its `__init__`."""
    found = {}
    for name, folder in {"sab_agents": ROOT / "sab_agents", **{k: ROOT / v for k, v in FOLDERS.items()}}.items():
        for path in folder.rglob("*.py"):
            if name == "sab_agents" and path.relative_to(folder).parts[0] in FOLDERS.values():
                continue  # a link, followed or not
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def edges(source: str, known: Collection[str]) -> set[str]:
    """The modules of the project that a source file imports, anywhere in it and for type checking, too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & set(known)


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """One circle of each group of modules that import each other."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        if module in done or module in path:
            return
        for other in sorted(graph[module]):
            visit(other, [*path, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def private_imports(source: str, known: Collection[str]) -> list[str]:
    """The private names of other modules of the project that a source file imports or takes from a module."""
    found, modules = [], set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and layer_or_none(node.module or ""):
            found += [f"{node.module}.{alias.name}" for alias in node.names if is_private(alias.name)]
            modules |= {alias.asname or alias.name for alias in node.names if f"{node.module}.{alias.name}" in known}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) in modules:
            found.append(ast.unparse(node))
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def layer_or_none(module: str) -> str | None:
    return layer_of(module) if module.startswith("sab_agents") else None


def test_no_module_imports_itself_through_others() -> None:
    known = sources()
    graph = {name: edges(source, known) for name, source in known.items()}
    assert circles(graph) == []


def test_no_module_imports_the_private_names_of_another() -> None:
    known = sources()
    found = {name: private_imports(source, known) for name, source in known.items()}
    assert {name: names for name, names in found.items() if names} == {}


BACKENDS = tuple(f"sab_agents.kernels.{name}_backend" for name in ("native", "torch", "triton"))


def backend_names(source: str) -> list[str]:
    """What a source file imports from a kernel's backend, and the names in it that tell one backend from another."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith(BACKENDS)]
        elif isinstance(node, ast.ImportFrom):
            names = [(alias.name, f"{node.module}.{alias.name}") for alias in node.names]
            found += [whole for name, whole in names if whole.startswith(BACKENDS) or tells_backends_apart(name)]
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            found += [name] if tells_backends_apart(name) else []
    return found


def tells_backends_apart(name: str) -> bool:
    return name in {"kernel_in_use", "forced_way"} or name.startswith(("Compiled", "bind_"))


def test_only_the_kernels_know_their_backends_and_the_benchmarks_that_compare_them() -> None:
    free = ("sab_agents.kernels", "sab_agents.train.bench")
    found = {name: backend_names(source) for name, source in sources().items() if not name.startswith(free)}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from sab_agents.kernels.native_backend.agent import Units",
        "from sab_agents.kernels import torch_backend",
        "import sab_agents.kernels.triton_backend.sizes as sizes",
        "from sab_agents.kernels import kernel_in_use",
        "from sab_agents import kernels\nkernels.forced_way()",
        "from sab_agents.kernels import CompiledLSTM",
        "def f(kernels):\n    return kernels.bind_lstm()",
    ],
)
def test_a_backend_that_is_known_outside_the_kernels_is_found(source: str) -> None:
    assert len(backend_names(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sab_agents.a import A",
        "def f():\n    import sab_agents.a",
        "from sab_agents import a",
    ],
)
def test_a_circle_is_found(source: str) -> None:
    known = {"sab_agents": "", "sab_agents.a": "from sab_agents.b import B", "sab_agents.b": source}
    expected = ["sab_agents.a", "sab_agents.b", "sab_agents.a"]
    assert circles({name: edges(text, known) for name, text in known.items()}) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "from sab_agents.checks import _is_number",
        "from sab_agents import checks\nchecks._is_number(1)",
        "import sab_agents.checks as c\nc._is_number(1)",
    ],
)
def test_a_private_name_of_another_module_is_found(source: str) -> None:
    assert len(private_imports(source, {"sab_agents", "sab_agents.checks"})) == 1


def test_environments_do_not_load_torch() -> None:
    code = (
        "import sys, importlib.util as u; sys.modules['sab_agents'] = m = type(sys)('sab_agents'); "
        f"m.__path__ = [{str(ROOT / 'sab_agents')!r}]; import sab_agents.envs.supervised; "
        "import sab_agents.envs.registration as r; [entry.dynamics() for entry in r.ENVIRONMENTS.values()]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "command", ["--help", "--version", "train --help", "suite --help", "bench --help", "envs --help"]
)
def test_help_does_without_what_takes_a_second_to_load(command: str) -> None:
    code = (
        f"import sys\nfrom sab_agents.train.cli import main\ntry:\n    main({command.split()})\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(' '.join({'torch', 'stable_baselines3', 'matplotlib', 'sklearn', 'pandas'} & {*sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert found.stderr == "\n"
    assert "sab-agents" in found.stdout


def test_the_first_environments_do_without_torch() -> None:
    code = (
        "import sys, sab_agents, gymnasium; gymnasium.make_vec('SAB/PassiveTMaze-v0', num_envs=2).reset(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_the_library_loads_stable_baselines3_when_it_is_needed() -> None:
    code = (
        "import sys, sab_agents; early = 'stable_baselines3' in sys.modules; sab_agents.VectorToVecEnv; sys.exit(early)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
