"""What quantizers that code the hidden vector of an autoencoder share: networks, loss, alignment.

With encoder E, decoder D, coding q with penalties p, and inputs x, training minimises

    |x - D(q(E(x)))|^2 + p + alpha L_CF

as shares of the variance of x. L_CF aligns what the codes stand for with collaborative vectors h of the same items,
Wang et al., "Learnable Item Tokenization for Generative Recommendation" (LETTER, 2024, arXiv 2405.07314), equation 4:

    L_CF = -1/B sum_i log (exp <z_i, h_i> / sum_j exp <z_i, h_j>)

where z is a linear map of q(E(x)) to the length of h. The vectors h come from train events alone
(`training.collaborative`); where a batch has none, the term is left out.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.config import Config
from modalrec.quantizers import Quantizer
from modalrec.quantizers._networks import Components, ResidualPerceptron
from modalrec.training.kmeans import BLOCK_ROWS

FIRST_NUMBERS = 2**26
"""Numbers of hidden vectors that codes start from, 256 MiB: those of 65,536 items of 1,024 each, or of fewer items."""
BLOCK_NUMBERS = 2**24
"""Numbers of hidden vectors of a block."""

# N items of a batch, D input dimension, C components, W width of the hidden vector, P of a collaborative one, L levels.


class AutoencoderConfig(Config):
    """Networks and alignment.

    Attributes:
        hidden: Widths of the encoder's hidden layers, mirrored by the decoder (TIGER's 512, 256, 128 without the last,
            which the projection replaces; LC-Rec's and LETTER's are 2048, 1024, 512, 256, 128, 64).
        components: Principal components that the networks see (256 hold 85 to 98 % of the variance of EfficientNet
            and MiniLM vectors, and a step on vectors of 1,664 takes half the time); null gives them the vectors
            themselves, as all publications do.
        linear: A linear map beside the perceptrons (UniGenRec has a linear residual; TIGER, LC-Rec and LETTER have
            none); with components it starts as their projection.
        norm: LayerNorm in the hidden layers (UniGenRec has it, TIGER and LC-Rec do not).
        dropout: In the hidden layers (UniGenRec .1, TIGER and LC-Rec 0).
        precision: Of products in training: bfloat16 takes about half the time where the processor has such products
            (GPUs, and CPUs with AVX512-BF16 or AMX), and far more where it has not. Weights and codes are float32, and
            so is all coding after training.
        alignment: Weight alpha of the alignment with collaborative vectors (LETTER .01); 0 needs none.
        collaborative_width: Length of the collaborative vectors (LETTER 32).
    """

    name: str
    hidden: tuple[PositiveInt, ...] = (512, 256)
    components: PositiveInt | None = 256
    linear: bool = True
    norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    alignment: float = Field(0.0, ge=0)
    collaborative_width: PositiveInt = 32


@dataclass(frozen=True)
class Coded:
    """A coded batch.

    Attributes:
        hidden_NW: What the codes stand for; gradients pass straight through to the encoder.
        penalty: To be added to the squared error of the reconstruction, summed over numbers, mean over items.
        extra: Further terms, added as they are.
    """

    hidden_NW: Tensor
    penalty: Tensor
    extra: Tensor | None = None


class Autoencoder(Quantizer):
    """Encoder, decoder, and a coding of the hidden vector that subclasses give."""

    def __init__(self, config: Any, dimension: int, width: int) -> None:
        super().__init__(config, dimension)
        self.width = width
        self.inputs = Components(dimension, config.components)
        project = config.components is not None
        widths = [self.inputs.width, *config.hidden, width]
        form = project, config.norm, config.dropout, config.linear
        self.encoder = ResidualPerceptron(widths, *form)
        self.decoder = ResidualPerceptron(widths[::-1], *form)
        self.align = nn.Linear(width, config.collaborative_width, bias=False) if config.alignment else None

    @abstractmethod
    def fit_codes(self, hidden_NW: Tensor) -> None:
        """Sets the codes from the hidden vectors of a sample."""

    @abstractmethod
    def code(self, hidden_NW: Tensor) -> Coded:
        """Codes a batch in training; may update buffers."""

    @abstractmethod
    def choose(self, hidden_NW: Tensor) -> Tensor:
        """Codes [N, L] of hidden vectors."""

    @abstractmethod
    def stand_for(self, codes_NL: Tensor) -> Tensor:
        """Hidden vectors [N, W] of codes."""

    @torch.no_grad()
    def initialise(self, vectors_ND: Tensor) -> None:
        """Finds the principal components, then sets the codes."""
        training = self.training
        self.eval()  # without dropout
        self.inputs.fit(vectors_ND)
        self.fit_codes(self.encoder(self.inputs(vectors_ND[: max(1, FIRST_NUMBERS // self.width)])))
        self.train(training)

    def loss(self, batch: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of the module's text, the first term and the alignment where there is one.

        Args:
            batch: Vectors [N, D], or `vectors` and the items' collaborative vectors `partners` [N, P], zero where an
                item has none.
        """
        vectors_ND = batch if isinstance(batch, Tensor) else batch["vectors"]
        inputs_NC = self.inputs(vectors_ND)
        coded = self.code(self._through(self.encoder, inputs_NC))
        reconstruction = F.mse_loss(self._through(self.decoder, coded.hidden_NW), inputs_NC)
        total = reconstruction + coded.penalty / inputs_NC.shape[1]
        if coded.extra is not None:
            total = total + coded.extra
        losses = {"reconstruction": reconstruction}
        if self.align is not None and not isinstance(batch, Tensor):
            losses["alignment"] = _alignment(self.align(coded.hidden_NW), batch["partners"])
            total = total + self.config.alignment * losses["alignment"]
        return {"loss": total, **losses}

    def _through(self, network: nn.Module, given: Tensor) -> Tensor:
        with torch.autocast(given.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            found: Tensor = network(given)
        return found.float()

    @torch.no_grad()
    def encode(self, vectors_ND: Tensor) -> Tensor:
        """The nearest codes; in blocks, so that memory does not grow with N."""
        blocks = vectors_ND.split(self._block_rows())
        return torch.cat([self.choose(self.encoder(self.inputs(block))) for block in blocks])

    @torch.no_grad()
    def decode(self, codes_NL: Tensor) -> Tensor:
        """What the decoder makes of the codes; in blocks as well."""
        blocks = codes_NL.split(self._block_rows())
        return torch.cat([self.inputs.back(self.decoder(self.stand_for(block))) for block in blocks])

    def _block_rows(self) -> int:
        return min(BLOCK_ROWS, max(1, BLOCK_NUMBERS // self.width))


def _alignment(found_NP: Tensor, partners_NP: Tensor) -> Tensor:
    """Cross-entropy of each item's own partner among those of the batch; items without a partner do not take part."""
    has_N = partners_NP.abs().sum(1) > 0
    scores_NN = found_NP @ partners_NP.T
    scores_NN = scores_NN.masked_fill(~has_N, -torch.inf)
    own_N = torch.where(has_N, torch.arange(len(found_NP), device=found_NP.device), -100)
    if not has_N.any():
        return scores_NN.new_zeros(())
    return F.cross_entropy(scores_NN, own_N, ignore_index=-100)
