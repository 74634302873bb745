"""What is asked and answered, as the OpenAPI document shows it."""

from pydantic import BaseModel, ConfigDict, Field


class Ask(BaseModel):
    """One user's history, and what is wanted after it."""

    model_config = ConfigDict(
        extra="forbid",
        coerce_numbers_to_str=True,
        json_schema_extra={"examples": [{"history": ["50", "181", "174"], "k": 10, "mask_seen": True}]},
    )

    history: list[str] = Field(
        min_length=1,
        description="Ids of the user's items, oldest first. Those that the model does not have are passed over.",
    )
    k: int = Field(10, ge=1, description="Length of the list.")
    mask_seen: bool = Field(True, description="Leave out the items of the history.")


class Item(BaseModel):
    """One item of a list."""

    item_id: str = Field(description="The item's id in the dataset that the model was trained on, or in the new items.")
    title: str = Field(description="Its title; empty where it has none.")
    score: float = Field(description="What the model gives it; comparable inside one list alone.")


class Answer(BaseModel):
    """The list of one history, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items": [{"item_id": "172", "title": "Empire Strikes Back, The", "score": 7.31}], "unknown_items": []}
            ]
        }
    )

    items: list[Item] = Field(description="At most k items; fewer where the catalogue has no more.")
    unknown_items: list[str] = Field(description="Items of the history that the model does not have.")


class Instances(BaseModel):
    """Several histories in one request, in the form of KServe's protocol v1."""

    model_config = ConfigDict(extra="forbid")

    instances: list[Ask] = Field(min_length=1, description="One entry a user.")


class Predictions(BaseModel):
    """One answer an instance, in their order."""

    predictions: list[Answer]


class ModelState(BaseModel):
    """Whether the model is there, in the form of KServe's protocol v1."""

    name: str = Field(description="The name that the server was given.")
    ready: bool


class Described(BaseModel):
    """What is served, and within which limits."""

    name: str = Field(description="The name that the server was given.")
    recommender: str = Field(description="The plug-in.")
    digest: str = Field(description="The identity of the artifact: SHA-256 over its manifest.")
    code_version: str = Field(description="The modalrec that made it.")
    items: int = Field(description="Size of the catalogue.")
    limits: dict[str, float] = Field(description="See `modalrec serve --help`; each is a setting.")


class Health(BaseModel):
    """The state of the process."""

    status: str = Field(examples=["ok"])
