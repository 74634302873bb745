"""The models that `evaluate` is given: checked against what they are to be measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modalrec.artifacts.manifest import Manifest
from modalrec.errors import ArtifactError, ConfigError
from modalrec.evaluation.results import HEADLINE
from modalrec.run import Run
from modalrec.stages import ABOUT_ITEMS


@dataclass(frozen=True)
class Trained:
    """A model that came in over an edge."""

    edge: str
    folder: Path
    manifest: Manifest

    @property
    def fit_on(self) -> str:
        """Which parts it has learnt from; models from before this could be chosen know the train part alone."""
        return str(self.manifest.config.get("fit_on", "train"))

    def check(self, manifests: Mapping[str, Manifest], headline_split: str) -> None:
        """Refuses what would be measured on what it was trained on, and other codes than its own.

        Raises:
            ArtifactError: It was trained on another dataset, or with other codes or embeddings.
            ConfigError: It was trained on another split or other parts of it, or on shuffled histories or not, unlike
                its edge.
        """
        config = self.manifest.config
        if "dataset" not in self.manifest.inputs:
            raise ArtifactError(
                f"{self.folder}: `{self.edge}` was made by `{self.manifest.stage}` and not trained on the dataset; "
                "evaluate the model that it was made from"
            )
        for edge in ("dataset", *ABOUT_ITEMS):
            made_from = self.manifest.inputs.get(edge)
            if edge in manifests and made_from not in (None, manifests[edge].digest):
                raise ArtifactError(
                    f"{self.folder}: `{self.edge}` was trained on other {edge} ({str(made_from)[:12]} instead of "
                    f"{manifests[edge].digest[:12]}); give that one, or train again"
                )
        split = "temporal" if self.edge == "temporal" else headline_split
        if config.get("split") != split:
            raise ConfigError(
                f"{self.folder}: `{self.edge}` was trained on the split {config.get('split')!r} and would be measured "
                f"on {split!r}; train it with split={split}"
            )
        if bool(config.get("shuffle_histories")) != (self.edge == "shuffled"):
            raise ConfigError(
                f"{self.folder}: given as `{self.edge}` and trained with shuffle_histories="
                f"{config.get('shuffle_histories')}; only the edge `shuffled` takes such a model"
            )
        needed = Trained(HEADLINE, self.folder, manifests[HEADLINE]).fit_on
        if self.fit_on != needed:
            raise ConfigError(
                f"{self.folder}: `{self.edge}` was trained with fit_on={self.fit_on}, the headline with "
                f"fit_on={needed}; train both on the same events"
            )

    def has_learnt(self, run: Run) -> bool:
        """Controls are switched off by zero epochs; the headline is measured in any case."""
        if self.edge == HEADLINE or self.manifest.statistics.get("epochs") != 0:
            return True
        run.say(f"{self.edge}: left out, it was trained for 0 epochs")
        return False
