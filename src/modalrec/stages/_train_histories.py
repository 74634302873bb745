"""Training on histories: a recommender, its batches, and the ranking that it is validated by."""

from modalrec.data.sequences import Sequences
from modalrec.data.splits import VALID
from modalrec.errors import DataError
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.ranking import rank
from modalrec.plugins import create
from modalrec.recommenders import Recommender
from modalrec.run import Run
from modalrec.stages._items import item_space
from modalrec.stages._train_config import TrainConfig
from modalrec.stages._train_given import Given, Prepared
from modalrec.stages._transfer import refuse_foreign, start_from
from modalrec.training.loop import Validate

VALIDATION_LIST = 20
"""Length of the lists that are measured after each epoch."""


def prepare(given: Given) -> Prepared:
    """Builds the recommender and the batches that it learns from.

    Raises:
        ConfigError: The model differs from the one it starts from.
        DataError: The split has nothing to train on.
        ArtifactError: Codes or vectors are not of this dataset's items, or the start was trained with others, or on
            events that this dataset tests.
    """
    config, run = given.config, given.run
    sequences = Sequences.load(given.dataset, given.split)
    if config.fit_on == "train_and_valid":
        sequences = sequences.with_valid()
    if config.shuffle_histories:
        sequences = sequences.shuffled(run.rng("shuffle"))
    model: Recommender = create("recommenders", config.recommender, item_space(given.dataset, **given.about))
    taken: dict[str, int] = {}
    if given.start is not None:
        refuse_foreign(given.start, given.manifests, config, given.split)
        taken = start_from(model, given.start, given.manifests, run)
    model.observe(sequences.train())
    batches = model.batches(sequences.train(), given.training.batch_size, run.seed, given.augment)
    if given.training.epochs and not len(batches.plan(0)):
        raise DataError(
            f"{given.dataset}: no user has two train events in the split {config.split}; lower min_user_events"
        )
    return Prepared(model, batches, _validation(model, sequences, config, run), taken)


def _validation(model: Recommender, sequences: Sequences, config: TrainConfig, run: Run) -> Validate | None:
    candidates = None
    if config.unseen_items == "drop":
        sequences = sequences.known()
        candidates = sequences.train_counts() > 0
    targets = sequences.targets(VALID, every=config.targets == "every")
    if not len(targets):
        return None
    targets = targets.sample(config.validation_users, run.rng("validation"))
    quiet = Run(stage=run.stage, seed=run.seed, device=run.device, quiet=True)

    def validate() -> dict[str, float]:
        ranking = rank(
            model,
            sequences,
            targets,
            mask_seen=config.mask_seen,
            k=VALIDATION_LIST,
            run=quiet,
            exhaustive=model.exact,
            candidates=candidates,
        )
        return {
            name: value
            for name, value in measure(ranking, (10, VALIDATION_LIST)).items()
            if not name.startswith("coverage")
        }

    return validate
