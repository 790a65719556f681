"""The observer: its compiled recurrence against plain PyTorch and finite differences."""

from __future__ import annotations

import torch

from tonesieve.config.config import DataSettings
from tonesieve.learning.models.observer import Observer, _Recurrence, observer_reference


def arguments(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(3, 12), (3, 12, 4), (4,), (2,), (2,), (3, 4)]
    samples, gains, output_weights, omega, _, start = (
        torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes
    )
    return [samples, 0.3 * gains, output_weights, omega.cos(), omega.sin(), start]


def test_the_compiled_recurrence_is_the_plain_one() -> None:
    arrays = arguments(torch.float64)
    torch.testing.assert_close(_Recurrence.apply(*arrays), observer_reference(*arrays))


def test_its_gradient_is_that_of_finite_differences() -> None:
    arrays = arguments(torch.float64)
    for index in (0, 1, 2, 5):
        arrays[index].requires_grad_()
    assert torch.autograd.gradcheck(_Recurrence.apply, arrays)


def test_without_gains_the_oscillators_run_free() -> None:
    observer = Observer(1, 8, 1, DataSettings(frequencies_hz=(5.0,), rate_hz=200.0))
    with torch.no_grad():
        observer.gain[-1].bias[-1] = -1e4  # type: ignore[index]
    state = (torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 1, 12))
    states, (last, age_features) = observer(torch.randn(1, 40, 1), state)
    phase = 2 * torch.pi * 5 * torch.arange(1, 41) / 200
    expected = torch.stack([phase.cos(), phase.sin()], dim=1)
    torch.testing.assert_close(states[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(last[0], states[0, -1:])
    assert ((age_features > 0) & (age_features < 1.0001)).all()
