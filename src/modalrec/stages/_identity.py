"""What makes vectors and codes of one dataset mean the same as those of another; empty where it cannot be told."""

from modalrec.artifacts.files import sha256_json
from modalrec.artifacts.manifest import Manifest
from modalrec.quantizers import WEIGHTS


def codebook_of(codes: Manifest) -> str:
    """Digest of the quantizer of a Codes artifact: equal codes stand for the same wherever it is equal."""
    weights = {name: file.sha256 for name, file in codes.files.items() if name.rpartition("/")[2] == WEIGHTS}
    settings = {name: codes.config.get(name) for name in ("quantizer", "towers")}
    return sha256_json({"weights": weights, **settings}) if weights else ""


def vector_space(embeddings: Manifest) -> str:
    """Digest of the encoders and the fuser, its weights included, that vectors come from."""
    made_by = {embeddings.stage: embeddings.config}
    made_by |= {ancestor.stage: ancestor.config for ancestor in embeddings.lineage.values()}
    if any(config.get("given") for config in made_by.values()):
        return ""  # made elsewhere, by whatever it was
    encoders = {stage: config["encoder"] for stage, config in made_by.items() if "encoder" in config}
    fuser = {name: file.sha256 for name, file in embeddings.files.items() if name.startswith("fuser.")}
    return sha256_json({"encoders": encoders, "fuser": fuser}) if encoders else ""
