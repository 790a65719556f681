"""The network that weighs candidates, and what it learns by.

A gated recurrent unit hears the features frame by frame; a head above it says the candidates'
weights, that of nothing, and how wide the band is over what the candidates would say themselves.
For a place between two frames a second, small network weighs both directions' candidates, from
what both hold; it is told everything and changes nothing of it. The kernels of `kernels.kalman_bank.gating`
compute the same without PyTorch.

Axes: S tones in one direction, B records, D directions, R frames, F features, M candidates,
W weights (M and that of nothing), P points, H hidden.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.gating import CROSS_BOUND, LOGIT_SCALE, N_CROSS
from tonesieve.kernels.simd import WIDTH as M
from tonesieve.learning.pretraining.dataset import Batch

MIXED = 48  # cells of the second network
# The share of all cases that the band is to hold.
COVERED = 0.9
# What the time before a record is settled counts, and the band, beside the settled error in dB.
EARLY, BAND = 0.15, 4.0
# Errors in dB are held to these bounds, early ones to less: one record must not rule a batch.
WORST_DB, WORST_EARLY_DB, BEST_DB = 10.0, 15.0, -60.0
# Added to powers that may be none, and to errors over the tone's rms whose logarithm is taken.
TINY, NEARLY = 1e-30, 1e-6


class TensorBatch(NamedTuple):
    """A batch on the device that learns from it."""

    features: Float[Tensor, "B D R F"]
    phasors: Float[Tensor, "B D R 2 M"]
    variances: Float[Tensor, "B D R M"]
    after: Float[Tensor, "B D R P 2 M"]
    after_true: Float[Tensor, "B D R P 2"]
    beside: Float[Tensor, "B D R P 2 M"]
    beside_true: Float[Tensor, "B R P 2"]
    n_frames: Int64[Tensor, " B"]
    settled: Int64[Tensor, " B"]


def as_lesson(batch: Batch, device: torch.device | str = "cpu") -> TensorBatch:
    """Arrays as tensors."""
    return TensorBatch(*(torch.from_numpy(array).to(device) for array in batch))


class GateOutput(NamedTuple):
    """What the network holds of a tone at the ends of frames."""

    hidden: Float[Tensor, "*S R H"]
    logits: Float[Tensor, "*S R W"]
    weights: Float[Tensor, "*S R W"]
    sure: Float[Tensor, "*S R"]  # logarithm of the band's half-width


class FusedOutput(NamedTuple):
    """What both directions together hold of a tone at places between frames."""

    weights: Float[Tensor, "B R V"]  # V: those of both directions' candidates, and of nothing
    sure: Float[Tensor, "B R"]


class GatingNetwork(nn.Module):
    """Both networks; names and shapes of the weights are those that `kernels.kalman_bank.gating` packs."""

    def __init__(self, n_hidden: int = 48, n_mixed: int = MIXED) -> None:
        super().__init__()
        self.gru = nn.GRU(n_features(), n_hidden, batch_first=True)
        self.head = nn.Linear(n_hidden, M + 2)
        self.mix = nn.Linear(2 * n_hidden + 2 * (M + 1) + N_CROSS, n_mixed)
        self.two = nn.Linear(n_mixed, 2 * M + 2)
        with torch.no_grad():
            # At first all candidates count alike, and both directions by how sure they are.
            for layer, nothing in ((self.head, -3.0), (self.two, -4.0)):
                layer.weight *= 0.1
                layer.bias.zero_()
                layer.bias[-2] = nothing

    def forward(
        self,
        features: Float[Tensor, "S R F"],
        phasors: Float[Tensor, "S R 2 M"],
        variances: Float[Tensor, "S R M"],
    ) -> GateOutput:
        """What is held at the end of every frame, by what was heard up to it."""
        hidden, _ = self.gru(features)
        told = self.head(hidden)
        weights = torch.softmax(told[..., :-1], dim=-1)
        sure = own_deviation(weights, phasors, variances) + told[..., -1]
        return GateOutput(hidden, told[..., :-1], weights, sure)

    def join(
        self,
        past: GateOutput,
        future: GateOutput,
        phasors: Float[Tensor, "B D R 2 M"],
        variances: Float[Tensor, "B D R M"],
    ) -> FusedOutput:
        """What is held at places between frames: ``past`` and ``future`` are those beside them.

        Only the second network learns by it.
        """
        with torch.no_grad():
            inputs = _inputs(past, future, phasors)
            prior = torch.cat(
                [
                    torch.log(side.weights[..., :-1] + TINY) - 2 * side.sure[..., None]
                    for side in (past, future)
                ],
                dim=-1,
            )
            prior = prior - prior.logsumexp(dim=-1, keepdim=True)
        told = self.two(torch.tanh(self.mix(inputs)))
        logits = torch.cat([prior + told[..., :-2], told[..., -2:-1]], dim=-1)
        weights = torch.softmax(logits, dim=-1)
        all_phasors = torch.cat([phasors[:, 0], phasors[:, 1]], dim=-1)
        all_variances = torch.cat([variances[:, 0], variances[:, 1]], dim=-1)
        return FusedOutput(
            weights, own_deviation(weights, all_phasors, all_variances) + told[..., -1]
        )


def weighed(
    weights: Float[Tensor, "*#S W"], phasors: Float[Tensor, "*#S 2 M"]
) -> Float[Tensor, "... 2"]:
    """The candidates' mean by their weights; what counts for nothing counts as zero."""
    return (weights[..., None, :-1] * phasors).sum(dim=-1)


@torch.no_grad()
def own_deviation(
    weights: Float[Tensor, "*S W"],
    phasors: Float[Tensor, "*S 2 M"],
    variances: Float[Tensor, "*S M"],
) -> Float[Tensor, " *S"]:
    """Logarithm of the standard deviation that weighed candidates would have by themselves.

    What they are apart, and what each is off by; what weight nothing has, the tone is off by. The
    band is this and what the network adds, which alone is learned by it.
    """
    mean = weighed(weights, phasors)
    spread = ((phasors - mean[..., None]) ** 2).sum(dim=-2) + variances
    missed = weights[..., -1] * (mean**2).sum(dim=-1)
    power = (weights[..., :-1] * spread).sum(dim=-1) + missed
    return 0.5 * torch.log(0.5 * power + TINY)


def _inputs(
    past: GateOutput, future: GateOutput, phasors: Float[Tensor, "B D R 2 M"]
) -> Float[Tensor, "B R I"]:
    """What the second network hears: both states, both outputs, how both stand to each other."""
    levels = [weighed(side.weights, phasors[:, at]) for at, side in enumerate((past, future))]
    cross = [
        past.sure - future.sure,
        _log_length(levels[0] - levels[1]) - torch.logaddexp(past.sure, future.sure),
        _log_length(levels[0]) - past.sure,
        _log_length(levels[1]) - future.sure,
    ]
    held = torch.stack(cross, dim=-1).clamp(-CROSS_BOUND, CROSS_BOUND)
    told = [LOGIT_SCALE * side.logits for side in (past, future)]
    return torch.cat([past.hidden, future.hidden, *told, held], dim=-1)


def _log_length(phasors: Float[Tensor, "*S 2"]) -> Float[Tensor, " *S"]:
    return 0.5 * torch.log((phasors**2).sum(dim=-1) + TINY)


class LossTerms(NamedTuple):
    """How answers did, a row a record (of each direction), and what is learned by."""

    settled_db: Float[Tensor, " S"]
    early_db: Float[Tensor, " S"]
    band_loss: Float[Tensor, ""]
    over: Float[Tensor, "S R P 2"]  # logarithm of the error over the band's half-width
    late: Bool[Tensor, "S R"]  # the frames that count as settled

    @property
    def loss(self) -> Float[Tensor, ""]:
        """Mean error in dB, early errors and the band with their weights."""
        return self.settled_db.mean() + EARLY * self.early_db.mean() + BAND * self.band_loss

    @property
    def covered(self) -> Float[Tensor, " S"]:
        """Share of the settled answers of every record that lie within the band."""
        within = (self.over < 0).double().mean(dim=(2, 3)) * self.late
        return within.sum(dim=1) / self.late.sum(dim=1)


def compute_losses(weigher: GatingNetwork, lesson: TensorBatch) -> tuple[LossTerms, LossTerms]:
    """How a direction alone did (S = B D), and how both together did (S = B)."""
    n_records, _, n_frames = lesson.features.shape[:3]
    frames = torch.arange(n_frames, device=lesson.features.device)
    there = frames < lesson.n_frames[:, None]
    late = there & (frames >= lesson.settled[:, None])
    opinion = weigher(
        *(p.flatten(0, 1) for p in (lesson.features, lesson.phasors, lesson.variances))
    )
    alone = _judged(
        weighed(opinion.weights[:, :, None], lesson.after.flatten(0, 1)),
        lesson.after_true.flatten(0, 1),
        opinion.sure,
        *(mask.repeat_interleave(2, dim=0) for mask in (there, late)),
    )
    sides = GateOutput(*(part.detach().unflatten(0, (n_records, 2)) for part in opinion))
    joined = weigher.join(*beside_places(sides, lesson))
    both = _judged(
        weighed(joined.weights[:, :, None], torch.cat(lesson.beside[:, :, :-1].unbind(1), dim=-1)),
        lesson.beside_true[:, :-1],
        joined.sure,
        there[:, 1:],
        late[:, 1:],
    )
    return alone, both


def beside_places(
    sides: GateOutput, lesson: TensorBatch
) -> tuple[GateOutput, GateOutput, Float[Tensor, "B D R 2 M"], Float[Tensor, "B D R M"]]:
    """What either side holds at the places after all frames but the last, and its candidates'.

    Parts of ``sides`` are (B, D, R, ...). After frame r of so many, the future is frame
    n_frames - 2 - r backwards.
    """
    n_frames = lesson.features.shape[2]
    places = torch.arange(n_frames - 1, device=lesson.features.device)
    back = (lesson.n_frames[:, None] - 2 - places).clamp(min=0)

    def future(part: Tensor) -> Tensor:
        index = back.reshape(*back.shape, *(1 for _ in part.shape[3:]))
        return part[:, 1].gather(1, index.expand(*back.shape, *part.shape[3:]))

    def both(part: Tensor) -> Tensor:
        return torch.stack([part[:, 0, :-1], future(part)], dim=1)

    return (
        GateOutput(*(part[:, 0, :-1] for part in sides)),
        GateOutput(*(future(part) for part in sides)),
        both(lesson.phasors),
        both(lesson.variances),
    )


def _judged(
    estimates: Float[Tensor, "S R P 2"],
    true: Float[Tensor, "S R P 2"],
    sure: Float[Tensor, "S R"],
    there: Bool[Tensor, "S R"],
    late: Bool[Tensor, "S R"],
) -> LossTerms:
    error = ((estimates - true) ** 2).sum(dim=-1).mean(dim=-1)
    power = (true**2).sum(dim=-1).mean(dim=-1)
    missed = torch.log((estimates - true).detach().abs() + NEARLY)
    over = missed - sure[:, :, None, None]
    early = there & ~late
    return LossTerms(
        settled_db(error, power, late), early_db(error, power, early), pinball(over, there),
        over.detach(), late,
    )  # fmt: skip


def settled_db(
    error: Float[Tensor, "S R"], power: Float[Tensor, "S R"], late: Bool[Tensor, "S R"]
) -> Float[Tensor, " S"]:
    """Error over power once settled, in dB; of bursts that are over by then, over next to none."""
    e, p = ((part * late).sum(dim=1) for part in (error, power))
    return 10 * torch.log10((e + 1e-7 * p) / (p + 1e-6) + 1e-7).clamp(BEST_DB / 10, WORST_DB / 10)


def early_db(
    error: Float[Tensor, "S R"], power: Float[Tensor, "S R"], early: Bool[Tensor, "S R"]
) -> Float[Tensor, " S"]:
    """Error over power before that, in dB; there may be no power, nor a frame."""
    e, p = ((part * early).sum(dim=1) for part in (error, power))
    ratio = (e + 1e-5) / (p + 1e-3) + 1e-6
    return 10 * torch.log10(ratio).clamp(BEST_DB / 10, WORST_EARLY_DB / 10)


def pinball(over: Float[Tensor, "S R P 2"], there: Bool[Tensor, "S R"]) -> Float[Tensor, ""]:
    """Least where a share of `COVERED` of all errors is below the band (Koenker 1978)."""
    loss = torch.maximum(COVERED * over, (COVERED - 1) * over).mean(dim=(2, 3))
    return (loss * there).sum() / there.sum()
