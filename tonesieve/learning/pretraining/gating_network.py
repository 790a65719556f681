"""The gating network in PyTorch, and its losses.

A gated recurrent unit (Cho et al. 2014) reads the features of each gating interval; a linear head
gives the logits of the filters and of silence, and the width of the band over the mixture's own.
At a place between two intervals a second, small network fuses both directions from the states and
outputs of both, which it does not change. The kernels of `kernels.kalman_bank.gating` compute the
same without PyTorch, and have the equations.

The estimates are trained on their error in dB, the bands on the pinball loss of the 90 % quantile
of the error (Koenker and Bassett 1978).

Reference: R. Koenker, G. Bassett, Regression quantiles, Econometrica 46 (1978) 33-50.

Axes: S tones in one pass, B records, D passes (`dataset`), R gating intervals, F features, M
filters, W weights (M and that of silence), P points, H hidden.
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

N_MIX = 48  # hidden units of the fusion network; chosen, not tuned
# Derived: `ToneEstimate.band` is documented to hold the tone in 9 cases of 10.
COVERAGE = 0.9
# Weights of the early error and of the band's loss beside the settled error in dB; chosen, not
# tuned.
EARLY_WEIGHT, BAND_WEIGHT = 0.3, 4.0
# Weight of each dB by which an estimate is worse than none at all; chosen, not tuned: three times
# that of a dB elsewhere, since an extractor must not harm what it cannot improve.
HARM_WEIGHT = 2.0
# Guards: bounds of errors in dB, so that no record rules a batch.
MAX_DB, MAX_EARLY_DB, MIN_DB = 15.0, 15.0, -60.0
# Initial logits of silence, of the causal and of the fused mixture; chosen, not tuned.
SILENCE_LOGIT, FUSED_SILENCE_LOGIT = -3.0, -4.0
# Guards: added to powers, and to errors over the tone's rms, before their logarithm is taken.
TINY, MIN_ERROR = 1e-30, 1e-6


class TensorBatch(NamedTuple):
    """A `Batch` as tensors on a device."""

    features: Float[Tensor, "B D R F"]
    phasors: Float[Tensor, "B D R 2 M"]
    variances: Float[Tensor, "B D R M"]
    causal_phasors: Float[Tensor, "B D R P 2 M"]
    causal_targets: Float[Tensor, "B D R P 2"]
    smoothing_phasors: Float[Tensor, "B 2 R P 2 M"]
    smoothing_targets: Float[Tensor, "B R P 2"]
    n_intervals: Int64[Tensor, " B"]
    settled: Int64[Tensor, " B"]


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> TensorBatch:
    """Copy a batch to a device."""
    return TensorBatch(*(torch.from_numpy(array).to(device) for array in batch))


class GateOutput(NamedTuple):
    """What the network gives at the ends of gating intervals."""

    hidden: Float[Tensor, "*S R H"]
    logits: Float[Tensor, "*S R W"]
    weights: Float[Tensor, "*S R W"]
    log_std: Float[Tensor, "*S R"]  # logarithm of the band's half-width


class FusedOutput(NamedTuple):
    """What both directions give at places between intervals."""

    weights: Float[Tensor, "B R V"]  # V = 2 M + 1: both directions' filters, and silence
    log_std: Float[Tensor, "B R"]


class GatingNetwork(nn.Module):
    """Both networks. Names and shapes of the parameters are the format of the weights' file."""

    def __init__(self, n_hidden: int = 64, n_mix: int = N_MIX) -> None:
        super().__init__()
        self.gru = nn.GRU(n_features(), n_hidden, batch_first=True)
        self.head = nn.Linear(n_hidden, M + 2)
        self.mix = nn.Linear(2 * n_hidden + 2 * (M + 1) + N_CROSS, n_mix)
        self.two = nn.Linear(n_mix, 2 * M + 2)  # the fusion's head
        with torch.no_grad():
            # At first all filters count alike, and the directions by the widths of their bands.
            for layer, logit in ((self.head, SILENCE_LOGIT), (self.two, FUSED_SILENCE_LOGIT)):
                layer.weight *= 0.1
                layer.bias.zero_()
                layer.bias[-2] = logit

    def forward(
        self,
        features: Float[Tensor, "S R F"],
        phasors: Float[Tensor, "S R 2 M"],
        variances: Float[Tensor, "S R M"],
    ) -> GateOutput:
        """Gate the filters at the end of every interval, from the intervals up to it."""
        hidden, _ = self.gru(features)
        outputs = self.head(hidden)
        weights = torch.softmax(outputs[..., :-1], dim=-1)
        log_std = mixture_log_std(weights, phasors, variances) + outputs[..., -1]
        return GateOutput(hidden, outputs[..., :-1], weights, log_std)

    def fuse(
        self,
        past: GateOutput,
        future: GateOutput,
        phasors: Float[Tensor, "B 2 R 2 M"],
        variances: Float[Tensor, "B 2 R M"],
    ) -> FusedOutput:
        """Gate both directions' filters at places between intervals.

        ``past`` and ``future`` are those at the places. Gradients reach the second network alone.
        """
        with torch.no_grad():
            inputs = _fusion_inputs(past, future, phasors)
            prior = torch.cat(
                [
                    torch.log(side.weights[..., :-1] + TINY) - 2 * side.log_std[..., None]
                    for side in (past, future)
                ],
                dim=-1,
            )
            prior = prior - prior.logsumexp(dim=-1, keepdim=True)
        outputs = self.two(torch.tanh(self.mix(inputs)))
        logits = torch.cat([prior + outputs[..., :-2], outputs[..., -2:-1]], dim=-1)
        weights = torch.softmax(logits, dim=-1)
        all_phasors = torch.cat([phasors[:, 0], phasors[:, 1]], dim=-1)
        all_variances = torch.cat([variances[:, 0], variances[:, 1]], dim=-1)
        log_std = mixture_log_std(weights, all_phasors, all_variances) + outputs[..., -1]
        return FusedOutput(weights, log_std)


def mixture_mean(
    weights: Float[Tensor, "*#S W"], phasors: Float[Tensor, "*#S 2 M"]
) -> Float[Tensor, "... 2"]:
    """Mean of a mixture of filters and of silence, whose phasor is 0."""
    return (weights[..., None, :-1] * phasors).sum(dim=-1)


@torch.no_grad()
def mixture_log_std(
    weights: Float[Tensor, "*S W"],
    phasors: Float[Tensor, "*S 2 M"],
    variances: Float[Tensor, "*S M"],
) -> Float[Tensor, " *S"]:
    """Logarithm of a mixture's standard deviation, of either part of the phasor.

    Without gradient: the band is learned by what the network adds to it.
    """
    mean = mixture_mean(weights, phasors)
    power = ((phasors - mean[..., None]) ** 2).sum(dim=-2) + variances
    silence_power = weights[..., -1] * (mean**2).sum(dim=-1)
    total = (weights[..., :-1] * power).sum(dim=-1) + silence_power
    return 0.5 * torch.log(0.5 * total + TINY)


def _fusion_inputs(
    past: GateOutput, future: GateOutput, phasors: Float[Tensor, "B 2 R 2 M"]
) -> Float[Tensor, "B R I"]:
    """Both states, both logits, and how both directions compare."""
    means = [mixture_mean(side.weights, phasors[:, d]) for d, side in enumerate((past, future))]
    cross = [
        past.log_std - future.log_std,
        _log_length(means[0] - means[1]) - torch.logaddexp(past.log_std, future.log_std),
        _log_length(means[0]) - past.log_std,
        _log_length(means[1]) - future.log_std,
    ]
    clipped = torch.stack(cross, dim=-1).clamp(-CROSS_BOUND, CROSS_BOUND)
    logits = [LOGIT_SCALE * side.logits for side in (past, future)]
    return torch.cat([past.hidden, future.hidden, *logits, clipped], dim=-1)


def _log_length(phasors: Float[Tensor, "*S 2"]) -> Float[Tensor, " *S"]:
    return 0.5 * torch.log((phasors**2).sum(dim=-1) + TINY)


class LossTerms(NamedTuple):
    """Terms of the loss, a row a record (of each direction)."""

    settled_db: Float[Tensor, " S"]
    early_db: Float[Tensor, " S"]
    band_loss: Float[Tensor, ""]
    log_ratio: Float[Tensor, "S R P 2"]  # logarithm of the error over the band's half-width
    is_settled: Bool[Tensor, "S R"]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """Mean error in dB, what it exceeds 0 dB by, and the weighted early error and band loss."""
        early, band = self.early_db.mean(), self.band_loss
        harm = self.settled_db.clamp(min=0).mean()
        settled = self.settled_db.mean() + HARM_WEIGHT * harm
        return settled + EARLY_WEIGHT * early + BAND_WEIGHT * band

    @property
    def covered(self) -> Float[Tensor, " S"]:
        """Fraction of every record's settled errors that lie within the band."""
        within = (self.log_ratio < 0).double().mean(dim=(2, 3)) * self.is_settled
        return within.sum(dim=1) / self.is_settled.sum(dim=1)


def compute_losses(network: GatingNetwork, batch: TensorBatch) -> tuple[LossTerms, LossTerms]:
    """Losses of each pass alone (S = B D), and of both directions together (S = B)."""
    n_records, n_passes, n_intervals = batch.features.shape[:3]
    index = torch.arange(n_intervals, device=batch.features.device)
    is_valid = index < batch.n_intervals[:, None]
    is_settled = is_valid & (index >= batch.settled[:, None])
    gate = network(*(p.flatten(0, 1) for p in (batch.features, batch.phasors, batch.variances)))
    causal = _loss_terms(
        mixture_mean(gate.weights[:, :, None], batch.causal_phasors.flatten(0, 1)),
        batch.causal_targets.flatten(0, 1),
        gate.log_std,
        *(mask.repeat_interleave(n_passes, dim=0) for mask in (is_valid, is_settled)),
    )
    both = GateOutput(*(part.detach().unflatten(0, (n_records, n_passes)) for part in gate))
    fused = network.fuse(*align_directions(both, batch))
    all_phasors = torch.cat(batch.smoothing_phasors[:, :, :-1].unbind(1), dim=-1)
    smoothing = _loss_terms(
        mixture_mean(fused.weights[:, :, None], all_phasors),
        batch.smoothing_targets[:, :-1],
        fused.log_std,
        is_valid[:, 1:],
        is_settled[:, 1:],
    )
    return causal, smoothing


def align_directions(
    both: GateOutput, batch: TensorBatch
) -> tuple[GateOutput, GateOutput, Float[Tensor, "B 2 R 2 M"], Float[Tensor, "B 2 R M"]]:
    """Past and future at the places after all intervals but the last; phasors and variances there.

    Parts of ``both`` are (B, D, R, ...). After interval r the future is the backward interval
    n_intervals - 2 - r.
    """
    n_intervals = batch.features.shape[2]
    places = torch.arange(n_intervals - 1, device=batch.features.device)
    backward = (batch.n_intervals[:, None] - 2 - places).clamp(min=0)

    def future(part: Tensor) -> Tensor:
        index = backward.reshape(*backward.shape, *(1 for _ in part.shape[3:]))
        return part[:, 2].gather(1, index.expand(*backward.shape, *part.shape[3:]))

    def stacked(part: Tensor) -> Tensor:
        return torch.stack([part[:, 1, :-1], future(part)], dim=1)

    return (
        GateOutput(*(part[:, 1, :-1] for part in both)),
        GateOutput(*(future(part) for part in both)),
        stacked(batch.phasors),
        stacked(batch.variances),
    )


def _loss_terms(
    estimates: Float[Tensor, "S R P 2"],
    targets: Float[Tensor, "S R P 2"],
    log_std: Float[Tensor, "S R"],
    is_valid: Bool[Tensor, "S R"],
    is_settled: Bool[Tensor, "S R"],
) -> LossTerms:
    error = ((estimates - targets) ** 2).sum(dim=-1).mean(dim=-1)
    power = (targets**2).sum(dim=-1).mean(dim=-1)
    log_error = torch.log((estimates - targets).detach().abs() + MIN_ERROR)
    log_ratio = log_error - log_std[:, :, None, None]
    is_early = is_valid & ~is_settled
    return LossTerms(
        settled_db(error, power, is_settled), early_db(error, power, is_early),
        pinball(log_ratio, is_valid), log_ratio.detach(), is_settled,
    )  # fmt: skip


def settled_db(
    error: Float[Tensor, "S R"], power: Float[Tensor, "S R"], is_settled: Bool[Tensor, "S R"]
) -> Float[Tensor, " S"]:
    """Settled error over power in dB; of bursts that are over by then, over a small constant."""
    e, p = ((part * is_settled).sum(dim=1) for part in (error, power))
    return 10 * torch.log10((e + 1e-7 * p) / (p + 1e-6) + 1e-7).clamp(MIN_DB / 10, MAX_DB / 10)


def early_db(
    error: Float[Tensor, "S R"], power: Float[Tensor, "S R"], is_early: Bool[Tensor, "S R"]
) -> Float[Tensor, " S"]:
    """Error over power before that in dB; both may be 0."""
    e, p = ((part * is_early).sum(dim=1) for part in (error, power))
    ratio = (e + 1e-5) / (p + 1e-3) + 1e-6
    return 10 * torch.log10(ratio).clamp(MIN_DB / 10, MAX_EARLY_DB / 10)


def pinball(
    log_ratio: Float[Tensor, "S R P 2"], is_valid: Bool[Tensor, "S R"]
) -> Float[Tensor, ""]:
    """Pinball loss, least where a fraction `COVERAGE` of all errors is within the band."""
    loss = torch.maximum(COVERAGE * log_ratio, (COVERAGE - 1) * log_ratio).mean(dim=(2, 3))
    return (loss * is_valid).sum() / is_valid.sum()
