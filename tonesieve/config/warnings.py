"""Warnings about settings that are allowed but probably not meant."""

from __future__ import annotations

from tonesieve.config.config import Config


def warnings_for(config: Config) -> list[str]:
    """List warnings about settings (docs/exercise.md, "Training and evaluation").

    Parameters
    ----------
    config : Config
        Settings of a run.

    Returns
    -------
    list of str
        One line each: the key, and why it is probably not meant.
    """
    data, model, training = config.data, config.model, config.training
    warnings = []
    if data.phase_scale >= 1 and data.phase_scale % 1 == 0:
        warnings.append(
            f"data.phase_scale {data.phase_scale:g}: unlearnable; the mixture carries no "
            "information on time, so the best estimate from it is 0 (MSE 0.5)"
        )
    if data.train_seed == data.test_seed:
        warnings.append(
            f"data.test_seed {data.test_seed} equals data.train_seed: the test set is the "
            "training set, and its metrics do not apply to new noise"
        )
    warnings += [f"training.{name}: does nothing here; {why}" for name, why in _idle(config)]
    if config.stateful and config.shuffled and not config.own_records:
        warnings.append(
            "training.shuffle with model.window 1: with rows in random order the carried state "
            "contains no past of the signal"
        )
    if training.batch_size == 1:
        warnings.append(
            "training.batch_size 1: slow; 32 lanes or windows take little more time than one"
        )
    if model.dropout and model.n_layers == 1 and model.kind not in ("tcn", "transformer"):
        warnings.append(
            f"model.dropout {model.dropout:g}: acts between layers, and there is one; "
            "model.readout_dropout acts before the readout"
        )
    warnings += _contexts(config)
    if model.selector == "none" and data.n_components > 1:
        warnings.append(
            "model.selector none: no model can know which component is wanted, so the MSE "
            f"cannot fall below {_floor_without_selector(data.n_components):g}"
        )
    return warnings


def _contexts(config: Config) -> list[str]:
    """Contexts that are longer than a window, or that nothing uses."""
    model, given = config.model, config.model.context
    uses_context = (
        model.attention != "none"
        or model.squeeze_excitation
        or model.kind in ("feed-forward", "adaptive", "transformer", "multi-scale")
    )
    if given is not None and not uses_context:
        return [f"model.context {given}: does nothing here; {model.kind} has a state of its own"]
    if not config.stateful and uses_context and model.look_back > model.window:
        return [f"model.context {model.look_back}: windows have only {model.window} samples"]
    if model.bidirectional and config.stateful:
        return [
            "model.bidirectional with model.window 1: reads a whole record in both directions; in "
            f"training {config.training.chunk_samples} samples at a time (training.chunk_samples)"
        ]
    return []


def _floor_without_selector(n_components: int) -> float:
    # Derived: the best single estimate is the mean of the K orthogonal targets, of power 1/2 each.
    return 0.5 * (1 - 1 / n_components)


def _idle(config: Config) -> list[tuple[str, str]]:
    """Settings that are given and have no effect."""
    training = config.training
    if not config.own_records:
        why = "it is for fresh noise in contiguous lanes with model.window 1"
        return [("record_s", why)] if training.record_s is not None else []
    given = {
        "order": training.order == "interleaved",
        "shuffle": bool(training.shuffle),
        "state_reset": training.state_reset == "epoch",
    }
    why = "with fresh noise in contiguous lanes every lane draws records of its own"
    return [(name, why) for name, is_given in given.items() if is_given]
