"""What `quantize` writes: semantic IDs or code groups, the quantizers beside them, and how well codes are used."""

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts import Stage
from modalrec.artifacts.codes import CodeGroup, write_code_groups, write_codes
from modalrec.data.semantic_ids import with_positions
from modalrec.evaluation.codes import colliding, has_collapsed, level_usage, pooled_usage
from modalrec.quantizers import Quantizer, save_quantizer, save_towers
from modalrec.run import Run
from modalrec.stages._quantize_code import all_present
from modalrec.stages._quantize_read import Tower, group_name

# N items, L levels of all towers, K codes of a group.

COLLAPSED = "look for equal or constant vectors, or lower quantizer.revive_after"
"""What to do about a level whose codes say nearly nothing."""


def write_semantic_ids(
    work: Stage,
    towers: list[Tower],
    quantizers: list[Quantizer],
    codes_NL: NDArray[np.int32],
    errors_N: NDArray[np.float32],
    run: Run,
) -> dict[str, float]:
    """Writes codes with a position behind them; usage of each level, and collisions before and with positions."""
    semantic_ids = with_positions(codes_NL, np.where(all_present(towers), errors_N, np.inf))
    sizes = [size for quantizer in quantizers for size in quantizer.codebook_sizes]
    sizes.append(int(semantic_ids[:, -1].max()) + 1)
    write_codes(work.folder, towers[0].item_ids, semantic_ids)
    if towers[0].name:
        named = zip(towers, quantizers, strict=True)
        save_towers(work.folder, {tower.name: quantizer for tower, quantizer in named}, sizes)
    else:
        save_quantizer(work.folder, quantizers[0], sizes)
    metrics: dict[str, float] = {}
    for level, found in enumerate(level_usage(codes_NL, sizes[:-1]), start=1):
        metrics[f"level_{level}_usage"] = found.used / len(found.counts)
        metrics[f"level_{level}_perplexity"] = found.perplexity
        metrics[f"level_{level}_normalised_entropy"] = found.normalised_entropy
        if has_collapsed(found):
            run.say(f"level {level} has collapsed: {found.used} of {len(found.counts)} codes are used; {COLLAPSED}")
    metrics |= _distinct("", codes_NL)
    metrics |= {"largest_group": sizes[-1], "collisions_left": colliding(semantic_ids)}
    work.statistics["codebook_sizes"] = sizes
    if sizes[-1] > max(sizes[:-1]):
        run.say(f"one group of {sizes[-1]:,} items shares all codes: raise quantizer.levels or look for equal items")
    return metrics


def write_groups(
    work: Stage, towers: list[Tower], quantizers: list[Quantizer], codes_NL: NDArray[np.int32], run: Run
) -> dict[str, float]:
    """Writes one group a tower; how its codes are used, on average of its places and of a codebook that they share."""
    groups: dict[str, CodeGroup] = {}
    metrics: dict[str, float] = {}
    first = 0
    for tower, quantizer in zip(towers, quantizers, strict=True):
        name, sizes = group_name(tower), tuple(quantizer.codebook_sizes)
        codes_NK = codes_NL[:, first : first + len(sizes)]
        first += len(sizes)
        groups[name] = CodeGroup(codes_NK, sizes, quantizer.shares_codebook)
        used = level_usage(codes_NK, sizes)
        if dead := sum(map(has_collapsed, used)):
            run.say(f"{name}: {dead} of {len(sizes)} codes an item have collapsed to one value; {COLLAPSED}")
        metrics[f"{name}_codes"] = len(sizes)
        metrics[f"{name}_items_without_vector"] = int((~tower.present_N).sum())
        metrics[f"{name}_usage"] = float(np.mean([place.used / len(place.counts) for place in used]))
        metrics[f"{name}_perplexity"] = float(np.mean([place.perplexity for place in used]))
        metrics[f"{name}_normalised_entropy"] = float(np.mean([place.normalised_entropy for place in used]))
        if quantizer.shares_codebook:
            pooled = pooled_usage(codes_NK, sizes[0])
            metrics[f"{name}_codebook_usage"] = pooled.used / sizes[0]
            metrics[f"{name}_codebook_perplexity"] = pooled.perplexity
        metrics |= _distinct(f"{name}_", codes_NK)
        work.statistics[f"{name}_perplexities"] = [round(place.perplexity, 3) for place in used]
    write_code_groups(work.folder, towers[0].item_ids, groups)
    save_towers(work.folder, dict(zip(groups, quantizers, strict=True)))
    return metrics | _distinct("", codes_NL)


def _distinct(prefix: str, codes_NL: NDArray[np.int32]) -> dict[str, float]:
    collisions = colliding(codes_NL)
    return {f"{prefix}collisions": collisions, f"{prefix}distinct": len(codes_NL) - collisions}
