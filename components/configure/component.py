"""`configure`: checks every configuration before anything costs time."""

from typing import NamedTuple

from components.stage import stage


@stage
def configure(preset: str, settings: dict, controls: bool, stages: list) -> NamedTuple(  # type: ignore[valid-type]
    "Configs",
    [
        ("ingest", str),
        ("embed_text", str),
        ("embed_image", str),
        ("fuse", str),
        ("quantize", str),
        ("pretrain", str),
        ("finetune", str),
        ("evaluate", str),
        ("tune", str),
        ("compare", str),
        ("scratch", str),
        ("pretrain_shuffled", str),
        ("finetune_shuffled", str),
        ("pretrain_temporal", str),
        ("finetune_temporal", str),
        ("finetune_without_popularity", str),
        ("finetune_without_codes", str),
        ("finetune_without_content", str),
        ("text_parts", list[int]),
        ("image_parts", list[int]),
        ("recommenders", list[dict]),
    ],
):
    """Check the configuration of every later stage, and hand each stage its own.

    A stage whose configuration did not change keeps its place in the cache.

    Args:
        preset: Name of a set of settings, such as laptop; a+b is two of them, b over a.
        settings: Settings over the preset's, as JSON: {"quantize": {"training": {"epochs": 50}}}.
        controls: Derive configurations for the control runs too.
        stages: The stages of the pipeline; all where the list is empty.

    Returns:
        ingest: Configuration of ingest, as JSON.
        embed_text: Configuration of embed_text, as JSON.
        embed_image: Configuration of embed_image, as JSON.
        fuse: Configuration of fuse, as JSON.
        quantize: Configuration of quantize, as JSON.
        pretrain: Configuration of pretrain, as JSON.
        finetune: Configuration of finetune, as JSON.
        evaluate: Configuration of evaluate, as JSON.
        tune: Configuration of a search before finetune, as JSON; empty without one.
        compare: Configuration of compare, as JSON; empty without one.
        scratch: Configuration of finetune without pretraining, as JSON.
        pretrain_shuffled: Configuration of pretrain on shuffled histories, as JSON.
        finetune_shuffled: Configuration of finetune on shuffled histories, as JSON.
        pretrain_temporal: Configuration of pretrain on the temporal split, as JSON.
        finetune_temporal: Configuration of finetune on the temporal split, as JSON.
        finetune_without_popularity: Configuration of finetune without fields of popularity, as JSON.
        finetune_without_codes: Configuration of finetune without the items' codes, as JSON.
        finetune_without_content: Configuration of finetune without texts and pictures, as JSON.
        text_parts: Numbers of the parts that embed_text is run in.
        image_parts: Numbers of the parts that embed_image is run in.
        recommenders: Of a comparison, the configurations of each recommender's own stages, as JSON, by stage.
    """
    from components.execute import configure_stages

    return configure_stages(preset, settings, controls, stages)
