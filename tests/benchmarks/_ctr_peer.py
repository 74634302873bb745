"""FuxiCTR's DIN, built from its own layers and trained by its own step, by the interpreter that it is installed for.

`python _ctr_peer.py FOLDER` reads `FOLDER/case.npz` (see `din_cases.write_case`), trains on its batches one after the
other, and prints one line of JSON: the predictions before, the losses, CPU-seconds a step, the predictions after; of
the first batch, or of the last `asked` rows of the case, which are not learnt from.
Nothing of modalrec is imported here.

The package holds no DIN but all that one is made of: embeddings with a table a feature, the attention, the MLP, the
model's base class with its optimizer, gradient clipping and step. They are joined here as the challenge's baseline
joins them: features of an item for every entry of the history, target and attended history into the MLP. What is done
to it from outside: `numpy.Inf`, which NumPy 2 no longer has, is put back.
"""

import json
import sys
import time
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

np.Inf = np.inf  # type: ignore[attr-defined]
warnings.filterwarnings("ignore")


def build(case: Any) -> Any:
    """The model with the weights of the case."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.layers import DIN_Attention, FeatureEmbedding, MLP_Block
    from fuxictr.pytorch.models import BaseModel

    fields = json.loads(str(case["fields"]))
    width = case[f"table_{fields[0]['name']}"].shape[1]
    features = FeatureMap("case", ".")
    features.labels, features.default_emb_dim = ["label"], width
    features.features = OrderedDict()
    for field in fields:
        kind = {"type": "sequence", "feature_encoder": "layers.MaskedAveragePooling()"} if field["bag"] else {}
        entry = {"type": "categorical", **kind, "source": "item", "vocab_size": field["size"], "padding_idx": 0}
        features.features[field["name"]] = entry
    item_width = width * len(fields)
    attention, layers = (json.loads(str(case[name])) for name in ("attention", "layers"))

    class DIN(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(features, model_id="din", metrics=["AUC"], model_root=".", verbose=0)
            self.embedding = FeatureEmbedding(features, width)
            self.attention = DIN_Attention(item_width, attention_units=attention, hidden_activations="ReLU")
            self.dnn = MLP_Block(2 * item_width, output_dim=1, hidden_units=layers, output_activation="Sigmoid")
            self.compile("adam", "binary_crossentropy", float(case["rate"]))

        def forward(self, inputs: Any) -> dict[str, torch.Tensor]:
            items, mask, _ = inputs
            vectors = self.embedding(items, flatten_emb=True).view(len(mask), -1, item_width)
            target, history = vectors[:, -1], vectors[:, :-1]
            return {"y_pred": self.dnn(torch.cat([target, self.attention(target, history, mask)], -1))}

        def get_labels(self, inputs: Any) -> torch.Tensor:
            return inputs[2][:, None]

    model = DIN()
    with torch.no_grad():
        for name, table in model.embedding.embedding_layer.embedding_layers.items():
            table.weight.copy_(torch.from_numpy(case[f"table_{name}"]))
        for part, block in (("attention", model.attention.attention_layer), ("dnn", model.dnn)):
            linear = [layer for layer in block.mlp if isinstance(layer, torch.nn.Linear)]
            for place, layer in enumerate(linear):
                layer.weight.copy_(torch.from_numpy(case[f"{part}_{place}_weight"]))
                layer.bias.copy_(torch.from_numpy(case[f"{part}_{place}_bias"]))
    return model


def batches(case: Any, first: int, last: int) -> list[Any]:
    """The rows in their order as the model takes them: padded histories, the target behind, all fields looked up."""
    case = {name: case[name] for name in case.files}
    fields = json.loads(str(case["fields"]))
    found = []
    for begin in range(first, last, int(case["batch"])):
        rows = slice(begin, min(begin + int(case["batch"]), last))
        history = torch.from_numpy(case["history"][rows])
        items = torch.cat([history, torch.from_numpy(case["target"][rows])[:, None]], 1).flatten()
        looked_up = {field["name"]: torch.from_numpy(case[f"values_{field['name']}"])[items] for field in fields}
        found.append((looked_up, (history > 0).float(), torch.from_numpy(case["label"][rows])))
    return found


def main() -> None:
    """Runs a case."""
    torch.set_num_threads(1)
    case = np.load(Path(sys.argv[1]) / "case.npz")
    learnt = len(case["label"]) - int(case["asked"])
    model, given = build(case), batches(case, 0, learnt)
    model._max_gradient_norm = 10.0
    few = len(given[0][2]) <= 64  # somebody may read them
    report: dict[str, Any] = {"before": said(model, given[0]) if few else [], "losses": [], "seconds": []}
    model.train()
    for batch in given:
        begin = time.process_time()
        report["losses"].append(model.train_step(batch).item())
        report["seconds"].append(time.process_time() - begin)
    asked = batches(case, learnt, len(case["label"]))
    report["after"] = [one for batch in asked or given[:few] for one in said(model, batch)]
    print(json.dumps(report))


def said(model: Any, batch: Any) -> list[float]:
    """The predictions for a batch."""
    model.eval()
    with torch.no_grad():
        predictions: list[float] = model(batch)["y_pred"][:, 0].tolist()
    return predictions


if __name__ == "__main__":
    main()
