"""What `ingest` can be told."""

from typing import Literal

from pydantic import Field, model_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.data.images import ImageConfig
from modalrec.data.session_splits import SessionSplit

SIZES = ("events", "sessions", "items")
Split = Literal["temporal", "leave_one_out", "cold_items", "sessions", "given", "random", "folds", "new_items"]
Count = Literal[
    "all_events",
    "all_sessions",
    "all_items",
    "train_full_events",
    "train_full_sessions",
    "train_full_items",
    "test_events",
    "test_sessions",
    "test_items",
    "train_tr_events",
    "train_tr_sessions",
    "train_tr_items",
    "train_valid_events",
    "train_valid_sessions",
    "train_valid_items",
]


class Published(configs.Config):
    """What others have counted after the same steps.

    Attributes:
        where: The publication.
        counts: Events, sessions and items of all, train_full, test, train_tr and train_valid, as far as published.
    """

    where: str
    counts: dict[Count, int] = Field(min_length=1)


class LabelRule(configs.Config):
    """What makes a rating a label: `at_least` this height is 1, lower is 0."""

    at_least: float


class Config(configs.Config):
    """What is read, what is kept, and how it is split.

    Attributes:
        source: The form of the raw data; by default the one that the folder looks like.
        splits: The first is the headline. By default sessions for sessions, and the source's own parts (given) where
            rows come in parts; else temporal, then leave_one_out, but the latter alone without times. `random` draws
            rows whatever their time, so that training knows what comes after the test rows: leaky, as are `folds`, one
            of several parts of about one size, and `new_items`, where all rows of some items are for test.
        cold_share: Share of the items that the split cold_items, leave-one-out otherwise, and new_items, random
            otherwise, keep out of training.
        folds: Parts of the split folds.
        fold: The one that is for test, from 0; the others are the same for every one of them.
        valid_share: Share of the events, by time, for validation in the temporal split; of a random one any; of folds
            a share of the rows that are not for test.
        test_share: Share of the events, the latest, for test in the temporal split; of a random one any.
        session_split: Where the split `sessions` cuts.
        session_gap: Seconds of silence after which a user's next event begins a new session; sessions are the users
            then. By default users stay whole.
        ties: Order of a user's events of one time: as in the file, by the items' places in the catalogue, or by their
            ids, as numbers where all are.
        min_user_events: Users (sessions) with fewer are dropped. By default 5, and 5 and 5 make the 5-core that most
            papers report on; 2 for sessions; 1 for prepared sessions.
        min_item_events: Items with fewer are dropped; by default 5, but 1 for prepared sessions.
        core: Drop users and items again until all that are left have enough, or once: users, items, users.
        label: Labels made of ratings; by default the source's own, if it has any.
        positive_rating: Keep events rated at least this; by default a rating of any height is an event.
        deduplicate: Of a user's events with one item keep all, the first or the last, or of consecutive ones the first.
        exact_repeats: Rows that equal another in user, item, time, rating and label; by default kept for sessions
            alone.
        max_unknown_share: Share of rows with items that the items table lacks, and of entries of given histories,
            above which the stage fails.
        keep_cold_items: Keep items without events in the catalogue; by default where rows come with histories, which
            may name them.
        images: Limits and size of pictures, and what stands in for missing ones.
        published: Counts to print beside those of the split `sessions`.
    """

    source: plugins.any_config("sources") | None = None  # type: ignore[valid-type]
    splits: tuple[Split, ...] | None = Field(default=None, min_length=1)
    cold_share: float = Field(default=0.1, gt=0, lt=1)
    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    test_share: float = Field(default=0.1, gt=0, lt=1)
    session_split: SessionSplit = SessionSplit()
    session_gap: float | None = Field(default=None, gt=0)
    ties: Literal["file", "item", "item_id"] = "file"
    min_user_events: int | None = Field(default=None, ge=1)
    min_item_events: int | None = Field(default=None, ge=1)
    core: Literal["repeated", "once"] = "repeated"
    label: LabelRule | None = None
    positive_rating: float | None = None
    deduplicate: Literal["all", "first", "last", "consecutive"] = "all"
    exact_repeats: Literal["drop", "keep"] | None = None
    max_unknown_share: float = Field(default=0.05, ge=0, le=1)
    keep_cold_items: bool | None = None
    images: ImageConfig = ImageConfig()
    published: Published | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave nothing to train on; their sum must be below 1")
        if self.splits and len(set(self.splits)) < len(self.splits):
            raise ValueError("splits: one is named twice")
        return self
