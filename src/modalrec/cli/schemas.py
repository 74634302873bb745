"""The command `schemas`: what every kind of artifact holds, as a page of Markdown made from the code."""

from collections.abc import Iterator

import pyarrow as pa

from modalrec.artifacts import schemas
from modalrec.artifacts.manifest import SCHEMA_VERSIONS, Manifest
from modalrec.stages import EDGES

HEAD = """# Artifacts

An artifact is a folder, made by one stage and never changed. `manifest.json` is in each, written last: kind, version of
the schema, resolved configuration, digests of inputs and files. Its digest is the artifact's identity. A reader refuses
another kind or version, a missing column, and a changed byte. `modalrec show DIR` prints a manifest; this page is what
`modalrec schemas` prints, and a test holds the two together.
"""
LENGTHS = {"D": 384, "L": 5, "K": 512}
"""Stand-ins for the lengths of vectors and codes: told from each other, then written as their letters."""
TABLES: dict[str, list[tuple[str, str, pa.Schema]]] = {
    "dataset": [
        (
            "items.parquet",
            "a row an item, which is its index everywhere; features of the source may follow",
            schemas.ITEMS,
        ),
        ("users.parquet", "a row a user, or a session", schemas.USERS),
        (
            "interactions.parquet",
            "sorted by user and position; an int8 column `split_<name>` a split: 0 train, 1 valid, 2 test",
            schemas.INTERACTIONS,
        ),
        ("", "columns of `interactions.parquet` where rows carry labels", pa.schema(schemas.LABELLED)),
        ("images/part-*.parquet", "sorted by item: JPEG, RGB, at most the configured side", schemas.IMAGES),
    ],
    "embeddings": [
        ("embeddings.parquet", "a row an item, in the dataset's order", schemas.embeddings(LENGTHS["D"])),
        ("", "the same where an item has several vectors", schemas.embedding_lists(LENGTHS["D"])),
    ],
    "codes": [
        ("codes.parquet", "a row an item; the last code tells collisions apart", schemas.codes(LENGTHS["L"])),
        ("", "the same as named groups, for models of rows", schemas.code_groups({"<group>": LENGTHS["K"]})),
    ],
    "model": [],
    "evaluation": [
        ("ranks/<row>.parquet", "a row a target, for the model and each baseline and control", schemas.RANKS),
        ("top_k/<row>.parquet", "the list after each target's history", schemas.TOP_K),
    ],
    "comparison": [],
}
FILES = {
    "embeddings": "Of fused ones also the fuser: `fuser.json`, of a trained one its weights and `curves.json`.",
    "codes": "The quantizer: `quantizer.json`, its weights, `curves.json`; `map.json`, items in two dimensions.",
    "model": "`config.json` and `model.safetensors`; `items.parquet`, what it knows of the items (models of rows also "
    "have `users.parquet`); `curves.json`; `encoding/`, the fuser and quantizer that new items go through.",
    "evaluation": "`metrics.json`, all numbers by name; `report.html`, `summary.md`. Of models of rows "
    "`predictions/*.parquet`, `roc.json`, and `prediction.csv` where labels are hidden.",
    "comparison": "`metrics.json`, all numbers by name; `report.html`, `summary.md`.",
}


def page() -> str:
    """The page."""
    return "\n".join([HEAD, *_manifest(), *(line for kind in SCHEMA_VERSIONS for line in _kind(kind))])


def _manifest() -> Iterator[str]:
    yield "| field of the manifest | type |"
    yield "|---|---|"
    for name, field in Manifest.model_fields.items():
        yield f"| `{name}` | {_name(field.annotation)} |"
    yield ""


def _kind(kind: str) -> Iterator[str]:
    edges = ", ".join(f"`{edge}`" for edge, other in EDGES.items() if other == kind)
    yield f"## {kind}"
    yield ""
    yield f"Schema version {SCHEMA_VERSIONS[kind]}." + (f" Edges: {edges}." if edges else "")
    if kind in FILES:
        yield f"\n{FILES[kind]}"
    for file, what, schema in TABLES[kind]:
        yield f"\n**`{file}`**: {what}.\n" if file else f"\n{what[0].upper()}{what[1:]}:\n"
        yield "| column | type | null |"
        yield "|---|---|---|"
        for column in schema:
            yield f"| `{column.name}` | {_type(column.type)} | {'yes' if column.nullable else 'no'} |"
    yield ""


def _type(kind: pa.DataType) -> str:
    """The type in words; vectors and codes have lengths of their own."""
    if pa.types.is_fixed_size_list(kind):
        letter = next(letter for letter, length in LENGTHS.items() if length == kind.list_size)
        return f"{letter} x {_type(kind.value_type)}"
    return f"list of {_type(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


def _name(annotation: object) -> str:
    found = annotation.__name__ if isinstance(annotation, type) and annotation.__module__ != "builtins" else ""
    return found or str(annotation).removeprefix("<class '").removesuffix("'>").replace(
        "modalrec.artifacts.manifest.", ""
    )
