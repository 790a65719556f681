"""Several devices for one training: a process each, and each its part of every batch.

All processes draw the same batches from the same seeds, take their own streams of them, and have
their gradients averaged by Lightning Fabric's DDP. The process that called only listens.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import distributed
from torch.multiprocessing import start_processes

from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.learning.data.batches import Batch
from tonesieve.learning.runtime.processes import end_with_parent, without_main

HOST = "127.0.0.1"
LISTEN_EVERY_S = 0.02

# A process's way to be heard by the one that called: a name, and what goes with it.
Report = Callable[..., None]


def check_devices(config: Config) -> None:
    """Raise `UserError` when the devices that are asked for are not there."""
    device, n_devices = config.training.device, config.training.devices
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise UserError(f"training.device: no {device} here; choose auto or cpu")
    if device == "auto":
        device = next((name for name in ("mps", "cuda") if available[name]), "cpu")
    n_here = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, n_devices)
    if n_devices > n_here:
        raise UserError(
            f"training.devices: {n_devices} asked for, and {device} has {n_here} here; "
            "choose at most that, or training.device cpu"
        )


def shard_batch(whole: Batch, config: Config, rank: int, n: int) -> tuple[Batch, float]:
    """The streams of a batch that one of n processes takes, and their share of the whole batch.

    A stream stays with its process however many there are in the batch at hand, for its state is
    kept there. A process with none left takes the first, which counts nothing: it has to take
    part when gradients are averaged.
    """
    size = config.training.batch_size
    start, stop = (min(len(whole), size * r // n) for r in (rank, rank + 1))
    kept = slice(start, stop) if start < stop else slice(0, 1)
    parts = {field.name: getattr(whole, field.name) for field in fields(whole)}
    own: dict[str, Any] = {n: None if part is None else part[kept] for n, part in parts.items()}
    return Batch(**own), (stop - start) / len(whole)


def run_distributed(
    work: Callable[..., Any], config: Config, *args: Any, hear: dict[str, Callable[..., None]]
) -> Any:
    """Call ``work(fabric, tell, config, *args)`` in one process a device; the first one's answer.

    ``work`` is a function of a module. What the first process tells by a name, ``hear[name]``
    gets here, in order. An exception in any process, or here, ends all of them and is raised.
    """
    store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    messages = multiprocessing.get_context("spawn").SimpleQueue()
    answers: list[Any] = []
    place = (store.port, messages, work, config, args)
    with without_main():
        processes = start_processes(_member, place, config.training.devices, join=False)
    done = False
    try:
        while not done:
            try:
                done = processes.join(timeout=LISTEN_EVERY_S)
            finally:  # when a process has failed, too: it has told why
                _deliver(messages, {**hear, "answer": answers.append})
    finally:
        for process in processes.processes:
            process.kill()
            process.join()
    return answers[0]


def _deliver(messages: Any, hear: dict[str, Callable[..., None]]) -> None:
    while not messages.empty():
        name, values = messages.get()
        if name == "failed":
            raise values[0]
        hear[name](*values)


def _member(
    rank: int,
    port: int,
    messages: Any,
    work: Callable[..., Any],
    config: Config,
    args: tuple[Any, ...],
) -> None:
    """What one of the processes does."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    tell = _tell_nobody if rank else lambda name, *values: messages.put((name, values))
    try:
        answer = work(_join(rank, port, config), tell, config, *args)
        tell("answer", answer)
        distributed.destroy_process_group()
    except Exception as error:
        messages.put(("failed", (error,)))
        raise


def _tell_nobody(name: str, *values: Any) -> None:
    pass


def _join(rank: int, port: int, config: Config) -> Fabric:
    """Meet the other processes."""
    n = config.training.devices
    # Not every parameter has a part in every batch: those of a learned initial state have none
    # where the state is carried on.
    strategy = DDPStrategy(find_unused_parameters=True)
    fabric = Fabric(
        accelerator=config.training.device, devices=n, strategy=strategy, plugins=[_Place(rank)]
    )
    distributed.init_process_group(
        "nccl" if fabric.device.type == "cuda" else "gloo",
        store=distributed.TCPStore(HOST, port, is_master=False),
        rank=rank,
        world_size=n,
    )
    fabric.launch()
    return fabric


class _Place(LightningEnvironment):
    """Tells Fabric that the processes are there, and which one this is; nothing is guessed."""

    creates_processes_externally = True

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0
