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
}
UNLESS = {"torch.load": ("weights_only", True), "yaml.load": ("Loader", None)}
"""Calls that need an argument, of this value where it is not None."""
NEVER_GIVEN = {"trust_remote_code": True, "allow_pickle": True, "shell": True}


def found(source: str) -> list[str]:
    """What is forbidden in a text of Python, by line."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        values = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
        needed, value = UNLESS.get(name, ("", None))
        if name in NEVER or (needed and (needed not in given or value not in (None, values.get(needed)))):
            problems.append(f"line {node.lineno}: {name}")
        problems += [f"line {node.lineno}: {key}={no}" for key, no in NEVER_GIVEN.items() if values.get(key) is no]
    return problems


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


def test_what_is_safe_is_left_alone() -> None:
    text = "torch.load(p, weights_only=True)\nyaml.load(t, Loader=Safe)\nre.compile('x')\nmodel.eval()\nnp.load(p)\n"
    assert found(text) == []
