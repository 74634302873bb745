"""What `modalrec show` prints: one manifest, and the tree of artifacts that it was made from."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from modalrec.artifacts import Manifest, read_manifest
from modalrec.artifacts.manifest import NAME, Ancestor
from modalrec.artifacts.s3 import SCHEME, Store
from modalrec.errors import ArtifactError


def read(place: str) -> Manifest:
    """Reads the manifest of an artifact; of one in a store nothing else is downloaded.

    Raises:
        ArtifactError: There is none, it was changed, or a local artifact's file is missing or has another size.
    """
    path = f"{place.rstrip('/')}/{NAME}"
    if place.startswith(SCHEME):
        content = Store.from_env().get_bytes(path)
    elif Path(path).is_file():
        content = Path(path).read_bytes()
    else:
        raise ArtifactError(f"{place}: has no {NAME}; give the output folder of a stage")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        raise ArtifactError(f"{path}: not a manifest; give the output folder of a stage") from None
    if manifest.digest != manifest.identity():
        raise ArtifactError(f"{path}: changed after it was written; run `{manifest.stage}` again")
    if not place.startswith(SCHEME):
        read_manifest(Path(place), manifest.kind, verify=False)
    return manifest


def render(place: str, manifest: Manifest) -> str:
    """A manifest for people."""
    size = sum(file.bytes for file in manifest.files.values())
    facts = {
        "kind": f"{manifest.kind}, schema version {manifest.schema_version}",
        "made by": f"{manifest.stage}, modalrec {manifest.code_version}, seed {manifest.seed}",
        "digest": manifest.digest,
        "files": f"{len(manifest.files)}, {size / 1e6:,.1f} MB",
        "cost": ", ".join(f"{name} {value:,g}" for name, value in manifest.cost.items()),
    }
    lines = [place, *(f"  {name + ':':10}{value}" for name, value in facts.items())]
    lines += ["", "configuration:", _indented(manifest.config)]
    if manifest.statistics:
        lines += ["", "statistics:", _indented(manifest.statistics)]
    lines += ["", "made from:", f"  {manifest.kind} {manifest.digest[:12]}  {manifest.stage}"]
    lines += _tree(manifest.inputs, manifest.lineage, "  ")
    return "\n".join(lines)


def _tree(inputs: dict[str, str], lineage: dict[str, Ancestor], indent: str) -> list[str]:
    lines = []
    for place, (edge, digest) in enumerate(sorted(inputs.items())):
        last = place == len(inputs) - 1
        ancestor = lineage.get(digest)
        made_by = f"{ancestor.stage}, {ancestor.cost.get('seconds', 0):,.1f} s" if ancestor else "unknown"
        lines.append(f"{indent}{'`-' if last else '|-'} {edge} {digest[:12]}  {made_by}")
        if ancestor:
            lines += _tree(ancestor.inputs, lineage, indent + ("   " if last else "|  "))
    return lines


def _indented(value: dict[str, Any]) -> str:
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return "\n".join(f"  {line}" for line in text.splitlines())
