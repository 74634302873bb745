"""What `quantize` does with a codebook of before: it codes other items as those that it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from modalrec.artifacts.manifest import Manifest
from modalrec.config import Config, dump, flatten
from modalrec.errors import ArtifactError, ConfigError
from modalrec.quantizers import Quantizer, load_quantizer
from modalrec.stages._identity import vector_space
from modalrec.stages._quantize_read import Tower, group_name

ConfigT = TypeVar("ConfigT", bound=Config)


def settings_of(folder: Path, manifest: Manifest, config: ConfigT) -> ConfigT:
    """The settings that the codebook was trained with; of those given, how the last level is coded.

    Raises:
        ArtifactError: The codes in the folder were not made by `quantize`.
        ConfigError: A setting was given that is neither the default nor the codebook's.
    """
    if manifest.stage != "quantize":
        raise ArtifactError(
            f"{folder}: was made by `{manifest.stage}` and holds no quantizer; give codes of `quantize`"
        )
    try:
        trained = type(config).model_validate({**manifest.config, "last_level": dump(config)["last_level"]})
    except ValidationError:
        raise ArtifactError(f"{folder}: has settings of another version; run `quantize` again") from None
    here, there, usual = flatten(dump(config)), flatten(dump(trained)), flatten(dump(type(config)()))
    own = here.get("quantizer.name"), there.get("quantizer.name")
    if own[0] == own[1]:
        usual |= flatten({"quantizer": dump(type(trained.quantizer)())})  # type: ignore[attr-defined]
    elif here["quantizer.name"] == usual["quantizer.name"]:
        here = {name: value for name, value in here.items() if not name.startswith("quantizer.")}
    other = [
        f"{name}={there.get(name)}, not {value}"
        for name, value in here.items()
        if name.startswith(("quantizer", "towers", "form")) and value not in (there.get(name), usual.get(name))
    ]
    if other:
        raise ConfigError(
            f"quantize: the codebook {folder} was made with {'; '.join(other)}; it brings its settings, leave yours out"
        )
    return trained


def load_codebook(
    folder: Path, manifest: Manifest, towers: list[Tower], edges: Mapping[str, Path], inputs: Mapping[str, Manifest]
) -> list[Quantizer]:
    """The trained quantizer of every tower.

    Args:
        folder: The codes that it comes from.
        manifest: Theirs.
        towers: What is to be coded.
        edges: From the name of each tower to its folder.
        inputs: The manifests of these folders, by edge.

    Raises:
        ArtifactError: It is damaged, or the vectors are of another length or of other encoders than its own.
    """
    if manifest.config["towers"] == "shared":
        quantizers = [load_quantizer(folder / towers[0].name)] * len(towers)
    else:
        grouped = manifest.config.get("form") == "groups"
        quantizers = [load_quantizer(folder / (group_name(tower) if grouped else tower.name)) for tower in towers]
    for tower, quantizer in zip(towers, quantizers, strict=True):
        length = tower.vectors_ND.shape[1]
        if length != quantizer.dimension:
            raise ArtifactError(
                f"{edges[tower.name]}: vectors of length {length}, and the codebook {folder} codes those of length "
                f"{quantizer.dimension}; embed as its items were embedded"
            )
    spaces = manifest.statistics.get("vector_spaces", {})
    for edge, embeddings in inputs.items():
        space = vector_space(embeddings)
        if space and spaces.get(edge) not in (None, space):
            raise ArtifactError(
                f"{edge}: from other encoders or another fuser than what the codebook {folder} was trained on; embed "
                "and fuse with the same settings and seed, and a fuser that is trained cannot be trained again"
            )
    return quantizers
