"""The commands `import` and `export`: ready-made codes and embeddings in, artifacts out as files for others."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from modalrec.artifacts.store import delivered, localized
from modalrec.config import resolve
from modalrec.run import Run

File = Annotated[str, typer.Argument(metavar="FILE", help="A path or an s3:// URI.")]
Target = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")]
Dataset = Annotated[str, typer.Option("--dataset", metavar="PLACE", help="Input: the dataset whose items they are of.")]
Ids = Annotated[
    str | None,
    typer.Option("--ids", metavar="FILE", help="The rows' item ids, for .npy: one a line, or a JSON list (.json)."),
]
Numbers = Annotated[
    str | None,
    typer.Option("--numbers", metavar="FILE", help="Lines of item id and number, for rows named by such numbers."),
]
Keys = Annotated[
    str, typer.Option("--keys", metavar="WHAT", help="What names a row: id, or row of the dataset's items from 0.")
]
Extra = Annotated[
    str, typer.Option("--extra", metavar="WHAT", help="Rows of items that the dataset lacks: error, or drop.")
]
Missing = Annotated[
    str, typer.Option("--missing", metavar="WHAT", help="Items without a row: error, or zero for no vector.")
]
Sizes = Annotated[
    str | None,
    typer.Option("--sizes", metavar="NUMBERS", help="Codes per level, such as 256 or 256,256,64. By default as seen."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress and no metrics.")]
IdTarget = Annotated[
    Path | None, typer.Option("--ids", metavar="FILE", help="Where to write the ids of .npy; by default FILE.ids.json.")
]


def add_exchange_commands(app: typer.Typer) -> None:
    """Adds `import codes`, `import embeddings`, `export codes` and `export embeddings` to the commands."""
    settings: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
    bring = typer.Typer(**settings, help="Make an artifact of ready-made codes or embeddings.")
    bring.command("codes")(_import_codes)
    bring.command("embeddings")(_import_embeddings)
    take = typer.Typer(**settings, help="Write an artifact as a file that others read.")
    take.command("codes")(_export_codes)
    take.command("embeddings")(_export_embeddings)
    app.add_typer(bring, name="import", rich_help_panel="Exchange")
    app.add_typer(take, name="export", rich_help_panel="Exchange")


def _import_codes(
    file: File,
    dataset: Dataset,
    codes: Annotated[str, typer.Option("--codes", metavar="PLACE", help="Output: the artifact `codes`.")],
    ids: Ids = None,
    numbers: Numbers = None,
    keys: Keys = "id",
    extra: Extra = "error",
    sizes: Sizes = None,
    positions: Annotated[
        bool, typer.Option("--positions", help="The last level is the collision position already.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make `codes` of an index.json, .npy or .parquet; a collision position tells items of equal codes apart.

    Example: modalrec import codes Scientific.index.json --dataset out/dataset --codes out/codes --sizes 256
    """
    from modalrec.stages.exchange import CodesConfig, import_codes

    given = {"keys": keys, "extra": extra, "positions": positions}
    given |= {"sizes": [part.strip() for part in sizes.split(",")]} if sizes else {}
    config = resolve(CodesConfig, given, where="import codes")
    with ExitStack() as stack:
        target = stack.enter_context(delivered(codes))
        inputs = _inputs(stack, file=file, dataset=dataset, ids=ids, numbers=numbers)
        run = Run("import", quiet=quiet)
        metrics = import_codes(**inputs, codes=target, config=config, run=run)
    run.metrics(**metrics)


def _import_embeddings(
    file: File,
    dataset: Dataset,
    embeddings: Annotated[str, typer.Option("--embeddings", metavar="PLACE", help="Output: the artifact.")],
    ids: Ids = None,
    numbers: Numbers = None,
    keys: Keys = "id",
    extra: Extra = "error",
    missing: Missing = "error",
    dimension: Annotated[
        int | None, typer.Option("--dimension", min=1, metavar="NUMBER", help="Refuse vectors of another length.")
    ] = None,
    column: Annotated[
        str, typer.Option("--column", metavar="NAME", help="Of .parquet, the column of the vectors.")
    ] = "embedding",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a pickle of lists of vectors an item, as data alone.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make embeddings of a .npy with its ids, of a .parquet, or of a .pkl of lists of vectors, as float32.

    Example: modalrec import embeddings text.npy --ids text.ids --dataset out/dataset --embeddings out/text_embeddings
    """
    from modalrec.stages.exchange import EmbeddingsConfig, import_embeddings

    given = {"keys": keys, "extra": extra, "missing": missing, "dimension": dimension, "column": column}
    given |= {"allow_pickle": allow_pickle}
    config = resolve(EmbeddingsConfig, given, where="import embeddings")
    with ExitStack() as stack:
        target = stack.enter_context(delivered(embeddings))
        inputs = _inputs(stack, file=file, dataset=dataset, ids=ids, numbers=numbers)
        run = Run("import", quiet=quiet)
        metrics = import_embeddings(**inputs, embeddings=target, config=config, run=run)
    run.metrics(**metrics)


def _export_codes(
    file: Target,
    codes: Annotated[str, typer.Option("--codes", metavar="PLACE", help="Input: the artifact `codes`.")],
    ids: IdTarget = None,
    positions: Annotated[
        bool, typer.Option("--positions/--no-positions", help="With the collision position as last level.")
    ] = True,
) -> None:
    """Write `codes` as .json (the published form), .npy with its ids, or .parquet.

    Example: modalrec export codes Scientific.index.json --codes out/codes --no-positions
    """
    from modalrec.stages.exchange import export_codes

    with localized(codes) as folder:
        export_codes(folder, file, positions=positions, ids=ids)


def _export_embeddings(
    file: Target,
    embeddings: Annotated[str, typer.Option("--embeddings", metavar="PLACE", help="Input: the artifact.")],
    ids: IdTarget = None,
    dtype: Annotated[str, typer.Option("--dtype", metavar="TYPE", help="float32 or float16.")] = "float32",
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="FILE", help="A .parquet with item_id: its rows, and in .parquet its columns."),
    ] = None,
    column: Annotated[
        str, typer.Option("--column", metavar="NAME", help="With --like, what the vectors' column is called.")
    ] = "embedding",
    missing: Annotated[
        str, typer.Option("--missing", metavar="WHAT", help="With --like, items without a vector: error, or zero.")
    ] = "error",
) -> None:
    """Write embeddings as .npy with its ids, or as .parquet; or in the rows of a table, as MMCTR's files are.

    Example: modalrec export embeddings item_feature_gpt.parquet --embeddings out/text_embeddings
    --like item_feature.parquet --column txt_emb_GPT --missing zero
    """
    from modalrec.stages.exchange import export_embeddings

    with localized(embeddings) as folder:
        export_embeddings(folder, file, dtype=dtype, ids=ids, like=like, column=column, missing=missing)


def _inputs(stack: ExitStack, **places: str | None) -> dict[str, Path]:
    return {name: stack.enter_context(localized(place)) for name, place in places.items() if place is not None}
