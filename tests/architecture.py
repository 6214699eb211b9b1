"""The rules of the house, each a function of syntax trees that yields one line a breach.

Nothing of the house is imported here. `test_architecture.py` applies the rules.
"""

import ast
import graphlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS = {
    8: ("h5dask",),  # the door: names from every floor, imported when first used
    7: ("cli", "pipeline"),
    6: (
        *("jobs", "config", "plan", "workers", "progress", "report", "telling", "normalizing"),
        *("backend", "testing", "demo"),
    ),
    5: (
        *("reading", "joining", "writing", "results", "losses", "landing"),
        *("vectors", "truth", "fasta"),
    ),
    4: ("storage",),
    3: ("layouts",),
    2: (
        *("layout", "contents", "groups", "grouping", "indexes", "columns", "problem"),
        *("check", "ops"),
    ),
    1: (
        *("kernels", "chunkindex", "blocks", "positions", "pattern", "garbage", "threads"),
        *("overlapping", "deadlines", "clients", "words", "errors"),
    ),
}
"""Top-level modules and folders of h5dask by floor; imports go down, or stay on their floor."""

BYTES = ("h5py", "fsspec", "hdf5plugin")
"""What touches bytes: nothing outside storage/ knows these."""

LAYOUTS = ("activations", "proteins", "ann", "episodes")

MAY_NAME_LAYOUTS = {
    "h5dask.demo": "its files and stages are the layouts' own examples",
    "h5dask.testing": "its examples are made by layout",
    "h5dask.truth": "ground truth is stored as one particular layout",
}
"""Modules outside layouts/ that may name one, and why."""

AVOIDED = {"util", "helper", "manager", "process", "handle", "info", "data", "schema"}
"""Words that say nothing, in names of modules and classes."""

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 70
"""The docstring not counted."""


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name and its text."""

    name: str
    text: str
    is_package: bool = False

    @property
    def room(self) -> str:
        """The top-level module or folder it belongs to: `storage` for `h5dask.storage.codec`."""
        return self.name.split(".")[1] if "." in self.name else self.name

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple[tuple[int, str], ...]:
        """Line and dotted name of everything imported, at the top or inside a function."""
        return tuple(found for node in ast.walk(self.tree) for found in self._imported(node))

    @cached_property
    def typing_lines(self) -> frozenset[int]:
        """Lines under `if TYPE_CHECKING:`, which never run."""
        blocks = (
            node.body
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        return frozenset(node.lineno for block in blocks for node in block)

    def _imported(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(names=names):
                source = self._source(node)
                yield from ((node.lineno, f"{source}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name

    def _source(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of what an import statement imports from."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        above = parts[: len(parts) + self.is_package - node.level]
        return ".".join([*above, *([node.module] if node.module else [])])


Modules = Mapping[str, Module]
Rule = Callable[[Modules], Iterator[str]]


def read_modules(*folders: str) -> dict[str, Module]:
    """Return every source file under some folders of the checkout, by dotted name."""
    modules = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        *above, last = path.relative_to(ROOT).with_suffix("").parts
        is_package = last == "__init__"
        name = ".".join(above if is_package else [*above, last])
        modules[name] = Module(name, path.read_text(encoding="utf-8"), is_package)
    return modules


def floor_of(module: Module) -> int:
    return next((number for number, rooms in FLOORS.items() if module.room in rooms), 0)


def resolve(name: str, modules: Modules) -> Module | None:
    """Return the module of the house that an imported name is, or lies in."""
    if re.fullmatch(r"h5dask\.__\w+__", name):
        return None  # a fact about the package, such as its version, lies on no floor
    parts = name.split(".")
    at_the_door = len(parts) <= 2
    tries = [".".join(parts[:n]) for n in range(len(parts), 0 if at_the_door else 1, -1)]
    return next((modules[one] for one in tries if one in modules), None)


def lies_under(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(top + ".") for top in tops)


def on_no_floor(modules: Modules) -> Iterator[str]:
    known = {room for rooms in FLOORS.values() for room in rooms}
    for module in modules.values():
        if module.room not in known:
            yield f"{module.name}: stands on no floor; name {module.room!r} in FLOORS, {__file__}"


def imports_upwards(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for line, name in module.imports:
            target = resolve(name, modules)
            if target and floor_of(target) > floor_of(module):
                yield (
                    f"{module.name}:{line}: floor {floor_of(module)} imports {target.name}, "
                    f"floor {floor_of(target)}"
                )


def imports_in_a_circle(modules: Modules) -> Iterator[str]:
    graph = {}
    for module in modules.values():
        running = (name for line, name in module.imports if line not in module.typing_lines)
        targets = (resolve(name, modules) for name in running)
        graph[module.name] = {target.name for target in targets if target} - {module.name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield "imports go in a circle: " + " <- ".join(error.args[1])


def bytes_outside_storage(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for line, name in module.imports:
            if module.room != "storage" and lies_under(name, *BYTES):
                yield f"{module.name}:{line}: imports {name}; only h5dask/storage/ touches bytes"


def layouts_or_files_below(modules: Modules) -> Iterator[str]:
    walls = ("h5dask.layout", "h5dask.layouts", "h5dask.storage")
    for module in modules.values():
        for line, name in module.imports:
            if module.room in {"ops", "kernels"} and lies_under(name, *walls):
                yield f"{module.name}:{line}: imports {name}; it may know neither layouts nor files"


def is_layout_name(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr="name", value=ast.Name(id=owner) | ast.Attribute(attr=owner)):
            return "layout" in owner.lower()
    return False


def choices_by_layout(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for node in ast.walk(module.tree):
            match node:
                case ast.Compare(left=left, comparators=others):
                    judged = [left, *others]
                case ast.Match(subject=subject):
                    judged = [subject]
                case _:
                    continue
            if module.room != "layouts" and any(is_layout_name(one) for one in judged):
                yield f"{module.name}:{node.lineno}: chooses by a layout's name; declare it instead"


def layouts_named(modules: Modules) -> Iterator[str]:
    files = [f"h5dask.layouts.{layout}" for layout in LAYOUTS]
    for module in modules.values():
        if module.room == "layouts" or module.name in MAY_NAME_LAYOUTS:
            continue
        for line, name in module.imports:
            if lies_under(name, *files):
                yield f"{module.name}:{line}: imports {name}; a fifth layout would need an edit"
        prose = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and node.value in LAYOUTS and id(node) not in prose:
                yield f"{module.name}:{node.lineno}: names {node.value!r}; declare it in layouts/"


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    n_lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        n_lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return n_lines


def too_long(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if (n_lines := len(module.text.splitlines())) > MAX_FILE_LINES:
            yield f"{module.name}: has {n_lines} lines, at most {MAX_FILE_LINES}; divide it"
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (n_lines := lines_of_code(node)) > MAX_FUNCTION_LINES:
                yield (
                    f"{module.name}:{node.lineno}: {node.name} has {n_lines} lines, "
                    f"at most {MAX_FUNCTION_LINES}; divide it"
                )


def words_of(name: str) -> set[str]:
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return {*words, *(word.removesuffix("s") for word in words)}


def words_that_say_nothing(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        classes = [node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
        for name in (module.name.rpartition(".")[2], *classes):
            if found := words_of(name) & AVOIDED:
                yield f"{module.name}: {name!r} says {sorted(found)}; name what it is"


def code_in_ops_door(modules: Modules) -> Iterator[str]:
    door = modules.get("h5dask.ops")
    if door and (len(door.tree.body) > 1 or ast.get_docstring(door.tree) is None):
        yield "h5dask.ops: holds more than its docstring; its modules are imported by name"


def left_to_do(modules: Modules) -> Iterator[str]:
    marks = re.compile(r"\b([T]ODO|[F]IXME|[X]XX)\b")  # in brackets, so as not to find itself
    for module in modules.values():
        for number, line in enumerate(module.text.splitlines(), 1):
            if marks.search(line):
                yield f"{module.name}:{number}: is left to do: {line.strip()!r}"


RULES: tuple[Rule, ...] = (
    on_no_floor,
    imports_upwards,
    imports_in_a_circle,
    bytes_outside_storage,
    layouts_or_files_below,
    choices_by_layout,
    layouts_named,
    too_long,
    words_that_say_nothing,
    code_in_ops_door,
    left_to_do,
)
"""What every module under h5dask/ keeps."""
