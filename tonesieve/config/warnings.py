"""What the settings allow but probably nobody means."""

from __future__ import annotations

from tonesieve.config.config import Config


def warnings_for(config: Config) -> list[str]:
    """What is allowed but probably not meant, a line each (SPEC, section 4)."""
    data, model, training = config.data, config.model, config.training
    found = []
    if data.phase_scale >= 1 and data.phase_scale % 1 == 0:
        found.append(
            f"data.phase_scale {data.phase_scale:g}: unlearnable; the mixture carries no "
            "information on time, so a model that listens can only answer 0 (MSE 0.5)"
        )
    if data.train_seed == data.test_seed:
        found.append(
            f"data.test_seed {data.test_seed} equals data.train_seed: the test set is the "
            "training set, and test figures say nothing of new noise"
        )
    found += [f"training.{name}: does nothing here; {why}" for name, why in _idle(config)]
    if config.stateful and config.shuffled and not config.own_records:
        found.append(
            "training.shuffle with model.window 1: rows in random order leave the carried "
            "state nothing to follow"
        )
    if training.batch_size == 1:
        found.append("training.batch_size 1: slow; 32 lanes or windows cost little more than one")
    if model.dropout and model.n_layers == 1 and model.kind not in ("tcn", "transformer"):
        found.append(
            f"model.dropout {model.dropout:g}: acts between layers, and there is one; "
            "model.readout_dropout acts before the readout"
        )
    found += _contexts(config)
    if model.selector == "none" and data.n_components > 1:
        found.append(
            "model.selector none: no model can know which component is meant, so the MSE "
            f"cannot fall below {_floor_without_selector(data.n_components):g}"
        )
    return found


def _contexts(config: Config) -> list[str]:
    """Contexts that a window cuts off, or that nothing looks back over."""
    model, given = config.model, config.model.context
    looks_back = (
        model.attention != "none"
        or model.squeeze_excitation
        or model.kind in ("feed-forward", "adaptive", "transformer", "multi-scale")
    )
    if given is not None and not looks_back:
        return [f"model.context {given}: does nothing here; {model.kind} has its own memory"]
    if not config.stateful and looks_back and model.look_back > model.window:
        return [f"model.context {model.look_back}: windows of {model.window} samples cut it off"]
    if model.bidirectional and config.stateful:
        return [
            "model.bidirectional with model.window 1: reads a whole record both ways, but in "
            f"training {config.training.chunk_samples} samples at a time (training.chunk_samples)"
        ]
    return []


def _floor_without_selector(n_components: int) -> float:
    # The best single answer is the mean of the K orthogonal targets, each of power 1/2.
    return 0.5 * (1 - 1 / n_components)


def _idle(config: Config) -> list[tuple[str, str]]:
    """Settings that are given and have nothing to act upon."""
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
