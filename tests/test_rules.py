"""What no file of ours may contain: ways to run code that was loaded. Beside ruff's rules, which see fewer of them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("src", "components", "pipelines") for path in sorted((ROOT / folder).rglob("*.py"))]
NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads"),
    *(
        "joblib.load",
        "dill.load",
        "dill.loads",
        "pandas.read_pickle",
        "pd.read_pickle",
        "shelve.open",
        "torch.hub.load",
    ),
    *("yaml.unsafe_load", "yaml.full_load", "tempfile.mktemp", "ssl._create_unverified_context"),
    *(
        "pickle.Unpickler",
        "pickle._Unpickler",
        "cloudpickle.load",
        "cloudpickle.loads",
        "runpy.run_path",
        "runpy.run_module",
    ),
}
UNLESS = {"torch.load": ("weights_only", True), "yaml.load": ("Loader", None)}
"""Calls that need an argument, of this value where it is not None."""
NEVER_GIVEN = {"trust_remote_code": True, "allow_pickle": True, "shell": True}
ONLY_FALSE = {"trust_remote_code"}
"""What may not come from a variable either."""
LOADERS = (
    "yaml.Loader",
    "yaml.UnsafeLoader",
    "yaml.FullLoader",
    "yaml.CLoader",
    "yaml.CUnsafeLoader",
    "yaml.CFullLoader",
)
"""Of YAML, those that make objects."""


def found(source: str) -> list[str]:
    """What is forbidden in a text of Python, by line."""
    problems = []
    nodes = list(ast.walk(ast.parse(source)))
    known = _imported(nodes)
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        name = _full(node.func, known)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        values = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
        needed, value = UNLESS.get(name, ("", None))
        if name in NEVER or (needed and (needed not in given or value not in (None, values.get(needed)))):
            problems.append(f"line {node.lineno}: {name}")
        problems += [f"line {node.lineno}: {key}={no}" for key, no in NEVER_GIVEN.items() if values.get(key) is no]
        problems += [f"line {node.lineno}: {key}" for key in ONLY_FALSE & given.keys() if key not in values]
        problems += [
            f"line {node.lineno}: {each}"
            for each in (_full(value, known) for value in given.values())
            if each in LOADERS
        ]
    return problems


def _imported(nodes: list[ast.AST]) -> dict[str, str]:
    """From the name that a module or function has in a file to its own."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {each.asname: each.name for each in node.names if each.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def _full(node: ast.expr, known: dict[str, str]) -> str:
    first, dot, rest = ast.unparse(node).partition(".")
    return f"{known.get(first, first)}{dot}{rest}".removeprefix("builtins.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_loaded_can_run_code(path: Path) -> None:
    assert found(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        *("eval('1')", "exec(text)", "torch.load(path)", "torch.load(path, weights_only=False)", "os.system('ls')"),
        *("AutoModel.from_pretrained(x, trust_remote_code=True)", "pickle.load(file)", "pickle.loads(content)"),
        *("yaml.load(text)", "np.load(path, allow_pickle=True)", "subprocess.run(line, shell=True)"),
        *("pd.read_pickle(path)", "ssl._create_unverified_context()", "tempfile.mktemp()"),
    ],
)
def test_each_of_them_would_be_found(line: str) -> None:
    assert len(found(f"def f(x):\n    return {line}\n")) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("from torch import load\nload(p)", "import torch as t\nt.load(p)", "from pickle import loads as l\nl(b)"),
        "from pickle import _Unpickler as U\nU(f).load()",
        *("import pickle as p\np.Unpickler(f).load()", "import builtins\nbuiltins.eval(s)", "torch.load(p, **given)"),
        *("yaml.load(t, Loader=yaml.Loader)", "from yaml import Loader\nyaml.load(t, Loader=Loader)"),
        *("AutoModel.from_pretrained(x, trust_remote_code=given)", "import os as o\no.system(s)"),
    ],
)
def test_another_name_hides_none_of_them(text: str) -> None:
    assert found(text)


def test_what_is_safe_is_left_alone() -> None:
    text = "torch.load(p, weights_only=True)\nyaml.load(t, Loader=Safe)\nre.compile('x')\nmodel.eval()\nnp.load(p)\n"
    assert found(text) == []
