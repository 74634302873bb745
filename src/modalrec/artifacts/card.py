"""The card of a model: `README.md` in its folder, written from the manifest, for people and for model hubs.

YAML in front, Markdown behind. It is no part of the artifact's identity: it says nothing that the manifest does not.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from modalrec.artifacts.manifest import Manifest

NAME = "README.md"
MEASURED = "valid_"
"""How the statistics of a model begin that were measured on the validation part."""
COUNTED = ("users", "items", "interactions", "texts", "images_given")


def write_card(folder: Path, manifest: "Manifest") -> None:
    """Writes the card of a model beside its files."""
    (folder / NAME).write_text(card(manifest), encoding="utf-8")


def card(manifest: "Manifest") -> str:
    """The text of a model's card."""
    name = _recommender(manifest)
    front = {
        "library_name": "modalrec",
        "tags": ["recommendation", *([name] if name else [])],
        "modalrec": {
            "digest": manifest.digest,
            "stage": manifest.stage,
            "code_version": manifest.code_version,
            "seed": manifest.seed,
            "recommender": name,
            "inputs": manifest.inputs,
        },
    }
    sections = [
        f"# {name or 'model'}, by `{manifest.stage}`",
        _use(manifest),
        _data(manifest),
        _measured(manifest),
        f"## Settings\n\n```yaml\n{_yaml(manifest.config)}```",
        _cost(manifest),
        _origin(manifest),
    ]
    return f"---\n{_yaml(front)}---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _recommender(manifest: "Manifest") -> str:
    """The plug-in; of a model that got new items, that of the model before."""
    configs = [manifest.config, *(ancestor.config for ancestor in manifest.lineage.values())]
    found = [config["recommender"]["name"] for config in configs if "name" in (config.get("recommender") or {})]
    return str(found[0]) if found else ""


def _use(manifest: "Manifest") -> str:
    return (
        "## Use\n\nThis folder is all it takes; nothing in it is executed when it is loaded.\n\n```sh\n"
        "modalrec recommend --model FOLDER --history ITEM,ITEM --k 10\nmodalrec serve --model FOLDER\n"
        "modalrec show FOLDER\n```\n\nScores compare items of one list alone. It knows the items in `items.parquet` "
        "and what its training data says of them: what few users touched it recommends rarely or badly."
    )


def _data(manifest: "Manifest") -> str:
    datasets = [one for one in manifest.lineage.values() if one.kind == "dataset"]
    if not datasets:
        return ""
    counts = [(name, one.statistics[name]) for one in datasets[:1] for name in COUNTED if name in one.statistics]
    files = sorted(name for one in datasets for name in one.statistics.get("source_files", {}))
    split = manifest.config.get("split")
    lines = [f"Trained on the train part of the split `{split}`."] if split else []
    lines += (
        [f"Raw files: {', '.join(f'`{name}`' for name in files)}; their licences bind who uses it."] if files else []
    )
    return "\n\n".join(["## Training data", _table(("what", "count"), counts), *lines])


def _measured(manifest: "Manifest") -> str:
    found = {
        name.removeprefix(MEASURED): value for name, value in manifest.statistics.items() if name.startswith(MEASURED)
    }
    numbers = [(name, f"{value:.4f}") for name, value in found.items() if isinstance(value, int | float)]
    if not numbers:
        return ""
    best = manifest.statistics.get("best_epoch")
    return (
        f"## On the validation part\n\nOf epoch {best}, which was chosen by it; `evaluate` measures the test part.\n\n"
        + _table(("metric", "value"), numbers)
    )


def _cost(manifest: "Manifest") -> str:
    rows = [(name.replace("_", " "), f"{value:,g}") for name, value in manifest.cost.items()]
    if "parameters" in manifest.statistics:
        rows.insert(0, ("parameters", f"{manifest.statistics['parameters']:,}"))
    return f"## Cost\n\n{_table(('what', 'value'), rows)}"


def _origin(manifest: "Manifest") -> str:
    rows = [(one.stage, one.kind, f"`{digest[:12]}`") for digest, one in manifest.lineage.items()]
    return f"## Made from\n\n{_table(('stage', 'kind', 'digest'), rows)}" if rows else ""


def _table(names: tuple[str, ...], rows: list[Any]) -> str:
    lines = [names, ("---",) * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
