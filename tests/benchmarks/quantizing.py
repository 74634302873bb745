"""Quantizers: ours beside what others would use, interleaved in one process, one thread each, in CPU-seconds.

Three comparisons, each with its quality:

* Training an RQ-VAE of UniGenRec's shape (perceptrons 512-256 to a latent of 128 with LayerNorm, ReLU, dropout and a
  linear residual, three levels of 2,048 codes as moving averages, AdamW, batches of 256), beside the same shape written
  plainly in torch: one-hot matrices for the averages, a DataLoader over the tensors.
* K-means beside scikit-learn's `KMeans(n_init=1)`, same limits on iterations and movement.
* Codes of a million vectors beside the one matrix product that no exact way can do without.

Vectors are drawn: topics of falling frequency, directions of falling variance, length 1.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from modalrec.quantizers._residuals import residual_codes
from modalrec.quantizers.rqvae import RQVAE, RQVAEConfig
from modalrec.run import Run
from modalrec.testing.quantizers import relative_error
from modalrec.training.kmeans import kmeans
from modalrec.training.steps import GradientSteps
from modalrec.training.vectors import VectorBatches

ITEMS, DIMENSION, ROUNDS, EPOCHS = 12_101, 768, 3, 6
LEVELS, SIZE, WIDTH, DECAY, EPSILON, COMMITMENT, RATE, BATCH = 3, 2048, 128, 0.99, 1e-5, 0.25, 1e-3, 256
SHAPE = RQVAEConfig(
    levels=LEVELS,
    codebook_size=SIZE,
    width=WIDTH,
    hidden=(512, 256),
    components=None,
    norm=True,
    dropout=0.1,
    learning="ema",
    decay=DECAY,
    initialisation="random",
    restart_below=1.0,
    commitment=COMMITMENT,
)
MANY, NARROW, FEW = 1_000_000, 128, 256


class PlainNetwork(nn.Module):
    """Two hidden layers and a linear residual."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third, last = widths
        self.layers = nn.Sequential(
            nn.Linear(first, second), nn.LayerNorm(second), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(second, third), nn.LayerNorm(third), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(third, last),
        )  # fmt: skip
        self.residual = nn.Linear(first, last)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs) + self.residual(inputs)


class PlainCodebook(nn.Module):
    """One level, its codes moving averages."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(SIZE, WIDTH))
        self.register_buffer("sums", self.codes.clone())
        self.register_buffer("counts", torch.ones(SIZE))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        squares = inputs.pow(2).sum(1, keepdim=True) + self.codes.pow(2).sum(1) - 2 * inputs @ self.codes.T
        labels = squares.argmin(1)
        found = self.codes[labels]
        if self.training:
            with torch.no_grad():
                one_hot = F.one_hot(labels, SIZE).float()
                self.counts = DECAY * self.counts + (1 - DECAY) * one_hot.sum(0)
                self.sums = DECAY * self.sums + (1 - DECAY) * one_hot.T @ inputs
                total = self.counts.sum()
                smoothed = (self.counts + EPSILON) / (total + SIZE * EPSILON) * total
                self.codes = self.sums / smoothed[:, None]
                dead = (self.counts < 1)[:, None]
                random = inputs[torch.randint(len(inputs), (SIZE,))]
                self.codes = torch.where(dead, random, self.codes)
                self.sums = torch.where(dead, random, self.sums)
                self.counts = torch.where(dead[:, 0], 1.0, self.counts)
        return labels, found


class Plain(nn.Module):
    """The whole model."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PlainNetwork([DIMENSION, 512, 256, WIDTH])
        self.decoder = PlainNetwork([WIDTH, 256, 512, DIMENSION])
        self.levels = nn.ModuleList(PlainCodebook() for _ in range(LEVELS))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(inputs)
        residual, summed, commitment = hidden, torch.zeros_like(hidden), hidden.new_zeros(())
        for level in self.levels:
            _, found = level(residual.detach())
            summed = summed + found
            commitment = commitment + F.mse_loss(hidden, summed) * WIDTH / DIMENSION
            residual = residual - found
        return self.decoder(hidden + (summed - hidden).detach()), commitment


def plain_epoch(model: Plain, optimizer: torch.optim.Optimizer, loader: DataLoader) -> None:  # type: ignore[type-arg]
    """One pass over the data."""
    model.train()
    for (inputs,) in loader:
        optimizer.zero_grad()
        found, commitment = model(inputs)
        loss = F.mse_loss(found, inputs) + COMMITMENT * commitment
        loss.backward()
        optimizer.step()
        loss.item()


def main(argv: Sequence[str] = ()) -> None:
    """Prints the three tables."""
    torch.set_num_threads(1)
    vectors_ND = drawn(ITEMS, DIMENSION)
    print(f"quantizers, {ITEMS:,} x {DIMENSION}, one thread, CPU-seconds, median of {ROUNDS} rounds")
    training(torch.from_numpy(vectors_ND) * DIMENSION**0.5)  # numbers of variance 1, where random codes start too
    clustering(vectors_ND)
    encoding()


def training(vectors_ND: Tensor) -> None:
    """Epochs of all three, by turns; the error of what all epochs together have learnt."""
    torch.manual_seed(0)
    plain = Plain()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=RATE, weight_decay=0.01)
    loader = DataLoader(TensorDataset(vectors_ND), batch_size=BATCH, shuffle=True)
    ours = {name: RQVAE(SHAPE.model_copy(update={"precision": name}), DIMENSION) for name in ("float32", "bfloat16")}
    batches = VectorBatches(vectors_ND.numpy(), BATCH, Run("bench", device="cpu", quiet=True))
    steps = {name: GradientSteps(model, 0.01, 0) for name, model in ours.items()}

    def epoch(name: str, number: int) -> None:
        ours[name].train()
        for step, rows in enumerate(batches.plan(number)):
            steps[name].step(batches.build(number, step, rows), RATE)

    for model in ours.values():
        model.initialise(vectors_ND)
    spent: dict[str, list[float]] = {"plain": [], "float32": [], "bfloat16": []}
    for number in range(EPOCHS):
        spent["plain"].append(seconds(lambda: plain_epoch(plain, optimizer, loader)))
        for name in ours:
            spent[name].append(seconds(lambda: epoch(name, number)))  # noqa: B023
    plain.eval()
    with torch.no_grad():
        error = (plain(vectors_ND)[0] - vectors_ND).pow(2).sum() / (vectors_ND - vectors_ND.mean(0)).pow(2).sum()
    errors = {"plain": float(error)}
    errors |= {name: relative_error(model.eval(), vectors_ND) for name, model in ours.items()}
    median = {name: statistics.median(times[1:]) for name, times in spent.items()}
    for name, title in {"plain": "plain torch", "float32": "ours", "bfloat16": "ours, bfloat16 products"}.items():
        print(
            f"RQ-VAE, an epoch: {title:24} {median[name]:5.2f} s {ITEMS / median[name]:7,.0f} items/s   "
            f"ratio {median['plain'] / median[name]:4.2f}   variance left after {EPOCHS} epochs {errors[name]:.3f}",
            flush=True,
        )


def clustering(vectors_ND: NDArray[np.float32]) -> None:
    """K-means to 256 centres, with other seeds each round."""
    points_ND = torch.from_numpy(vectors_ND)
    theirs, ours, inertias = [], [], []
    kmeans(points_ND[:2048], FEW)  # compiles
    for seed in range(ROUNDS):
        model = KMeans(FEW, init="k-means++", n_init=1, max_iter=300, tol=1e-4, random_state=seed)
        theirs.append(seconds(lambda: model.fit(vectors_ND)))  # noqa: B023
        generator = torch.Generator().manual_seed(seed)
        ours.append(seconds(lambda: inertias.append(kmeans(points_ND, FEW, generator=generator).inertia)))  # noqa: B023
        inertias.append(model.inertia_)
    other, mine = statistics.median(theirs), statistics.median(ours)
    print(f"k-means to {FEW}      scikit-learn {other:5.2f}   ours {mine:6.2f}   ratio {other / mine:5.2f}")
    means = statistics.mean(inertias[1::2]), statistics.mean(inertias[::2])
    print(
        f"  inertia           scikit-learn {means[0]:5.0f}   ours {means[1]:6.0f}   {means[1] / means[0] - 1:+.2%}",
        flush=True,
    )


def encoding() -> None:
    """Codes of a million vectors at three levels of 256, and the product of the vectors with all codes alone."""
    torch.manual_seed(0)
    vectors_ND = torch.from_numpy(drawn(MANY, NARROW))
    codes_LVW = torch.stack([vectors_ND[torch.randperm(MANY)[:FEW]] * scale for scale in (1.0, 0.6, 0.4)])
    keys_WJ = np.ascontiguousarray(codes_LVW.reshape(-1, NARROW).numpy().T)
    product = np.empty((8192, keys_WJ.shape[1]), np.float32)
    vectors = vectors_ND.numpy()

    def multiply() -> None:
        for begin in range(0, MANY, len(product)):
            block = vectors[begin : begin + len(product)]
            np.matmul(block, keys_WJ, out=product[: len(block)])

    found = residual_codes(vectors_ND[:4096], codes_LVW)
    products, ours = [], []
    for _ in range(ROUNDS):
        products.append(seconds(multiply))
        ours.append(seconds(lambda: residual_codes(vectors_ND, codes_LVW)))
    product_seconds, mine = statistics.median(products), statistics.median(ours)
    left_NW, same = vectors_ND[:4096], []
    for level, codes_VW in enumerate(codes_LVW):
        labels_N = torch.cdist(left_NW, codes_VW).argmin(1)
        same.append((labels_N == found[:, level]).float().mean().item())
        left_NW = left_NW - codes_VW[found[:, level]]
    print(
        f"{MANY:,} x {NARROW} to 3 x {FEW}: product {product_seconds:5.2f} s   codes {mine:5.2f} s   "
        f"ratio {mine / product_seconds:4.2f}"
    )
    print(f"  codes as by distances of residuals: {min(same):.2%}", flush=True)


def drawn(n: int, dimension: int, topics: int = 1000) -> NDArray[np.float32]:
    """Vectors of length 1 around topics."""
    rng = np.random.default_rng(0)
    spread_D = (1 + np.arange(dimension, dtype=np.float32)) ** -0.5
    frequency = (1 + np.arange(topics)) ** -0.7
    labels = rng.choice(topics, n, p=frequency / frequency.sum())
    vectors_ND = 0.8 * rng.standard_normal((n, dimension), np.float32)
    vectors_ND += rng.standard_normal((topics, dimension), np.float32)[labels]
    vectors_ND *= spread_D
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND


def seconds(work: Callable[[], object]) -> float:
    """CPU-seconds of a piece of work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # Threads of matrix products are fixed when the libraries are loaded.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.benchmarks.quantizing"], os.environ | one_thread)  # noqa: S606
    main(sys.argv[1:])
