"""Artifacts through the store: downloaded before a stage, uploaded after it, found again by what they came from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl.types import artifact_types

import components
from modalrec.artifacts import code_version
from modalrec.artifacts.faults import ObjectMissing
from modalrec.artifacts.files import sha256_file, sha256_json
from modalrec.artifacts.store import Store
from modalrec.errors import DataError

BUCKET = "s3://modalrec"


@dataclass
class Staging:
    """The store as a run uses it.

    Attributes:
        store: The store.
        recipe: Name of the recipe, part of the addresses.
        addresses: From stage and output to address, of everything that this run made or found.
    """

    store: Store
    recipe: str
    addresses: dict[str, dict[str, str]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def upload_source(self, folder: Path) -> str:
        """Uploads the user's files, unless the store has the same ones.

        Returns:
            Their address, which names their content.

        Raises:
            DataError: The folder has no file.
        """
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        if not files:
            raise DataError(f"{folder}: no folder with files; give the folder that holds the data")
        digest = sha256_json({name: sha256_file(path) for name, path in sorted(files.items())})
        address = f"{BUCKET}/sources/{folder.resolve().name}-{digest[:16]}"
        if self.store.names(address) != sorted(files):
            self.store.put_folder(folder, address)
        return address

    def key(
        self, component_spec: Any, executor_spec: Any, arguments: Mapping[str, Any], image: str | None = None
    ) -> str:
        """The identity of a stage's results: its code, its image if any, its parameters, the content of its inputs."""
        declared = component_spec.input_definitions
        container = executor_spec.container
        return sha256_json(
            {
                "command": [*container.command, *container.args],
                "parameters": {name: arguments.get(name) for name in declared.parameters},
                "inputs": {name: self._digest(arguments.get(name)) for name in declared.artifacts},
                "code": [code_version(), _components_digest(), *([image] if image else [])],
            }
        )

    def bring(self, arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Downloads the artifacts among the arguments and lets these point to the copies."""
        return {name: self._brought(value, folder / name) for name, value in arguments.items()}

    def keep(self, key: str, stage: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Uploads a stage's outputs and remembers them under a key.

        Args:
            key: See `key`.
            stage: The stage's title.
            outputs: From name to parameter value or artifact in a local folder.

        Returns:
            The outputs; the artifacts point to the store.
        """
        record: dict[str, Any] = {"stage": stage, "parameters": {}, "artifacts": {}}
        for name, value in outputs.items():
            if isinstance(value, dsl.Artifact):
                address = f"{BUCKET}/{self.recipe}/{stage.replace(' ', '_')}/{key[:16]}/{name}"
                record["artifacts"][name] = self._upload(value, address)
            else:
                record["parameters"][name] = value
        self.store.put_bytes(_entry(key), json.dumps(record, indent=2, sort_keys=True).encode())
        return self._outputs(stage, record)

    def recall(self, key: str, stage: str) -> dict[str, Any] | None:
        """The outputs remembered under a key, or None where there are none or the store has lost one of them."""
        try:
            record = json.loads(self.store.get_bytes(_entry(key)))
        except ObjectMissing:
            return None
        complete = all(self._is_there(entry) for entry in record["artifacts"].values())
        return self._outputs(stage, record) if complete else None

    def _outputs(self, stage: str, record: Mapping[str, Any]) -> dict[str, Any]:
        outputs = dict(record["parameters"])
        for name, entry in record["artifacts"].items():
            cls = artifact_types._SCHEMA_TITLE_TO_TYPE.get(entry["type"], dsl.Artifact)
            outputs[name] = cls(name=name, uri=entry["uri"], metadata=dict(entry["metadata"]))
            self._digests[entry["uri"]] = entry["digest"]
            if entry["files"]:
                self.addresses.setdefault(stage, {})[name] = entry["uri"]
        return outputs

    def _upload(self, artifact: Any, address: str) -> dict[str, Any]:
        path = Path(artifact.path)
        files: list[str] = []
        digest = artifact.metadata.get("digest")
        if path.is_dir():
            files = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
            digest = digest or sha256_json({name: sha256_file(path / name) for name in files})
            self.store.put_folder(path, address)
        elif path.is_file():
            files = ["."]
            digest = sha256_file(path)
            self.store.put_file(path, address)
        # An artifact without a file, such as metrics that are only logged, is its metadata.
        metadata = dict(artifact.metadata)
        digest = digest or sha256_json(metadata)
        return {
            "uri": address,
            "type": artifact.schema_title,
            "metadata": metadata,
            "files": files,
            "digest": digest,
        }

    def _is_there(self, entry: Mapping[str, Any]) -> bool:
        if entry["files"] == ["."]:
            return self.store.exists(entry["uri"])
        return not entry["files"] or set(entry["files"]) <= set(self.store.names(entry["uri"]))

    def _brought(self, value: Any, path: Path) -> Any:
        if isinstance(value, list):
            return [self._brought(each, path / str(n)) for n, each in enumerate(value)]
        if not isinstance(value, dsl.Artifact):
            return value
        self.store.get(value.uri, path)
        return type(value)(name=value.name, uri=str(path), metadata=value.metadata)

    def _digest(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._digest(each) for each in value]
        return None if value is None else self._digests[value.uri]


def _entry(key: str) -> str:
    return f"{BUCKET}/cache/{key}.json"


def _components_digest() -> str:
    folder = Path(components.__file__).parent
    return sha256_json([sha256_file(path) for path in sorted(folder.rglob("*.py"))])
