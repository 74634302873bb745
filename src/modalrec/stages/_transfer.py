"""What a trained model hands on to another, of its own dataset or of another one, and when it may."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from modalrec.artifacts.manifest import Ancestor, Manifest
from modalrec.config import Config, dump
from modalrec.errors import ArtifactError, ConfigError
from modalrec.recommenders import ItemSpace, Model, load_recommender
from modalrec.recommenders._content import Content
from modalrec.run import Run
from modalrec.stages._identity import codebook_of, vector_space

SELECTING = (
    "session_gap",
    "ties",
    "min_user_events",
    "min_item_events",
    "core",
    "positive_rating",
    "deduplicate",
    "exact_repeats",
)
"""Settings of ingest that decide which of a user's events is the last."""
SPACES = {
    "embeddings": "vector_space",
    "text_embeddings": "text_vector_space",
    "image_embeddings": "image_vector_space",
}
"""From an edge of vectors to the name of their space's identity in a model's manifest."""


def identities(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """What a model's manifest says of its codes and vectors, for the models that will start from it."""
    found = {"codebook": codebook_of(manifests["codes"])} if "codes" in manifests else {}
    found |= {identity: vector_space(manifests[edge]) for edge, identity in SPACES.items() if edge in manifests}
    return {name: digest for name, digest in found.items() if digest}


def refuse_foreign(start: Path, manifests: Mapping[str, Manifest], config: Config, split: str) -> None:
    """Refuses a start whose codes or vectors mean something else, or that has seen what is to be measured.

    Args:
        start: The model's folder.
        manifests: Of all inputs by edge, `pretrained` among them.
        config: Of the training that is to come.
        split: Its split.

    Raises:
        ArtifactError: Other codes, other vectors, or another dataset that may hold events of this one's test part.
        ConfigError: It was trained on other parts of a split.
    """
    pretrained = manifests["pretrained"]
    for field in ("split", "shuffle_histories", "fit_on"):
        here = getattr(config, field)
        there = pretrained.config.get(field, here)
        if there != here:
            raise ConfigError(f"{start}: was trained with {field}={there}, this is {here}; pretrain with the same")
    ways = {
        "codes": "quantize these items with its codes as --codebook",
        "embeddings": "embed and fuse these items with the same settings and seed",
    }
    said = identities(manifests)
    for edge, identity in {"codes": "codebook", **SPACES}.items():
        before, now = pretrained.inputs.get(edge), manifests[edge].digest if edge in manifests else None
        if before == now:
            continue
        both = before is not None and now is not None
        if not both or not _alike(edge, pretrained.statistics.get(identity), said.get(identity)):
            way = ways.get(edge, "embed these items with the same encoder")
            raise ArtifactError(
                f"{start}: was trained with other {edge}; give the same --{edge}, {way}, or pretrain again"
            )
    for digest in _learnt_from(pretrained) - {manifests["dataset"].digest}:
        if digest not in pretrained.lineage:
            raise ArtifactError(f"{start}: says nothing of a dataset that it was trained on; pretrain again")
        _refuse_leak(start, pretrained.lineage[digest], manifests["dataset"], split)


def same_dataset(manifests: Mapping[str, Manifest]) -> bool:
    """Whether the model to start from was trained on the very dataset."""
    return manifests["pretrained"].inputs["dataset"] == manifests["dataset"].digest


def start_from(model: Model, start: Path, manifests: Mapping[str, Manifest], run: Run) -> dict[str, int]:
    """Gives a model what one in a folder has learnt, and says what starts fresh.

    Of the same dataset that is all. Of another one, rows of items that the start has learnt from the same raw data are
    taken over by their ids, and others start fresh; so do positions of semantic IDs that it does not have.

    Returns:
        `transferred`, the numbers that were taken over, where the dataset is another.

    Raises:
        ConfigError: The two differ in more than their items and positions.
    """
    source = load_recommender(start)
    here, there = dump(model.config), dump(source.config)
    differing = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if differing:
        what = ", ".join(f"{name} {there.get(name)} -> {here.get(name)}" for name in differing)
        raise ConfigError(f"{start}: cannot start from a model that differs in {what}; pretrain with the same settings")
    lengths = [_lengths(one.items) for one in (source, model)]
    if lengths[0] != lengths[1]:
        before, now = (", ".join(f"{length} ({name})" for name, length in found.items()) for found in lengths)
        raise ConfigError(f"{start}: was trained on vectors of length {before}, these have {now}; embed alike")
    if same_dataset(manifests):
        _load(model, source.state_dict(), start)
        return {}
    for name, module in model.named_modules():
        if isinstance(module, Content):  # first, since it brings as many directions as it has learnt from
            module.load_state_dict(source.get_submodule(name).state_dict())
    files = _files(_dataset(manifests["pretrained"])), _files(manifests["dataset"])
    rows = _known(source, model) if files[0] <= files[1] or files[1] <= files[0] else (torch.zeros(0).long(),) * 2
    fresh, learnt = model.state_dict(), dict(model.named_parameters()).keys()
    state, notes, taken = {}, [], 0
    for name, old in source.state_dict().items():
        new = fresh.get(name)
        if new is None:
            state[name] = old  # refused below
        elif name in model.item_tensors and name not in learnt:
            state[name] = new  # counted on the data, as it will be again
            notes.append(f"{name}: starts fresh")
        elif name in model.item_tensors:
            state[name] = new.clone()
            state[name][rows[1]] = old[rows[0]]
            taken += old[rows[0]].numel()
            notes.append(f"{name}: {len(rows[0]):,} of {len(new):,} items' rows are taken over, the others start fresh")
        elif old.shape != new.shape and _grown(source, model, old, new):
            both = min(len(old), len(new))
            state[name] = torch.cat([old[:both], new[both:]])
            taken += old[:both].numel()
            if both < len(new):
                notes.append(f"{name}: {both:,} of {len(new):,} rows are taken over, new positions start fresh")
        else:
            state[name] = old
            taken += old.numel()
    _load(model, state, start)
    total = sum(tensor.numel() for tensor in model.state_dict().values())
    run.say(f"starts from a model of another dataset: {taken:,} of {total:,} numbers are taken over")
    for note in notes:
        run.say(f"  {note}")
    return {"transferred": taken}


def _lengths(items: ItemSpace) -> dict[str, int]:
    """Length of the items' vectors by what they are of."""
    found = {} if items.content is None else {"content": items.content.shape[1]}
    lists = {"text": items.text, "image": items.image}
    return found | {name: vectors.dimension for name, vectors in lists.items() if vectors is not None}


def _alike(edge: str, before: str | None, now: str | None) -> bool:
    """Whether codes are of one codebook; vectors from elsewhere, whose encoder nobody knows, may be of one space."""
    return before == now is not None or (edge in SPACES and None in (before, now))


def _learnt_from(model: Manifest) -> set[str]:
    """The datasets that a model, and those that it started from, were trained on."""
    between = {one.inputs["dataset"] for one in model.lineage.values() if one.kind == "model"}
    return between | {model.inputs["dataset"]}


def _load(model: Model, state: dict[str, Tensor], start: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        what = str(error).splitlines()[-1].strip()
        raise ConfigError(
            f"{start}: cannot start from a model that differs in the codes or items ({what}); pretrain with the same"
        ) from None


def _grown(source: Model, model: Model, old: Tensor, new: Tensor) -> bool:
    """Whether two tensors differ by the rows of positions alone, the last level of semantic IDs."""
    there, here = source.items.codebook_sizes, model.items.codebook_sizes
    if not here or there[:-1] != here[:-1] or old.shape[1:] != new.shape[1:] or not old.ndim:
        return False
    return len(new) - len(old) == here[-1] - there[-1]


def _known(source: Model, model: Model) -> tuple[Tensor, Tensor]:
    """Rows in the one and in the other of items that both have."""
    places = {item: row for row, item in enumerate(source.items.item_ids)}
    pairs = [(places[item], row) for row, item in enumerate(model.items.item_ids) if item in places]
    old, new = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(old, dtype=torch.int64), torch.tensor(new, dtype=torch.int64)


def _dataset(model: Manifest) -> Ancestor:
    return model.lineage[model.inputs["dataset"]]


def _files(dataset: Manifest | Ancestor) -> set[str]:
    """Digests of the raw files that a dataset was made from."""
    return {file["sha256"] for file in dataset.statistics.get("source_files", {}).values()}


def _refuse_leak(start: Path, before: Ancestor, here: Manifest, split: str) -> None:
    """The test events of this dataset must be none that the start has learnt from or was chosen by."""
    cuts = [f"{split}_{part}_cut" for part in ("valid", "test")]
    timed = all(cut in one.statistics for cut in cuts for one in (before, here))
    if timed:
        for cut in cuts:
            there, now = before.statistics[cut], here.statistics[cut]
            if there > now:
                raise ArtifactError(
                    f"{start}: the dataset it was trained on has {cut}={there}, later than {now} here: it has learnt "
                    "from the time that is measured; ingest that one with a larger valid_share and test_share"
                )
        return
    if split == "temporal":
        raise ArtifactError(f"{start}: the dataset it was trained on has no split by time; pretrain on one that has")
    if not _files(before) & _files(here):
        return
    differing = _differing(before, here)
    if split != "leave_one_out":
        differing.append(f"a split {split} without a cut")
    if differing:
        raise ArtifactError(
            f"{start}: was trained on the same raw data with other {', '.join(differing)}: events that are tested here "
            "may be among those that it has learnt from; ingest both alike"
        )


def _differing(before: Ancestor, here: Manifest) -> list[str]:
    """What chooses other events of the raw data that both share: settings of ingest or of its source, or the files."""
    found = [name for name in SELECTING if before.config.get(name) != here.config.get(name)]
    sources = [one.config.get("source") or {} for one in (before, here)]
    names = [source.get("name") for source in sources]
    folders = [_folders(one) for one in (before, here)]
    if names[0] == names[1] == "several":
        parts = {name.partition("/")[0] for name in folders[0].keys() & folders[1].keys()}
        sources = [{part: source["parts"].get(part) for part in parts} for source in sources]
    if (names[0] == names[1] and sources[0] != sources[1]) or (
        names[0] != names[1] and "item_id" in here.config["ties"]
    ):
        found.append("source settings")
    if any(one & other and one != other for one in folders[0].values() for other in folders[1].values()):
        found.append("raw files beside")
    return found


def _folders(dataset: Manifest | Ancestor) -> dict[str, set[str]]:
    """The digests of raw files by folder."""
    found: dict[str, set[str]] = {}
    for name, file in dataset.statistics.get("source_files", {}).items():
        found.setdefault(name.rpartition("/")[0], set()).add(file["sha256"])
    return found
