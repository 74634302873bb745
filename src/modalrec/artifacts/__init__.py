"""Artifacts: folders with a manifest, their schemas, and the object store that holds them."""

from modalrec.artifacts.manifest import Manifest, Stage, code_version, read_manifest, write_artifact

__all__ = ["Manifest", "Stage", "code_version", "read_manifest", "write_artifact"]
