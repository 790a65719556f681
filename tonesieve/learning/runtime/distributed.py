"""Data-parallel training on several devices: one process a device.

All processes draw the same batches from the same seeds, take their own streams of them, and have
their gradients averaged by Lightning Fabric's DDP. The process that called only waits and passes
their reports on.
"""

from __future__ import annotations

import multiprocessing
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
from tonesieve.learning.data.features import Batch
from tonesieve.learning.runtime.processes import end_with_parent, without_main

HOST = "127.0.0.1"
# How often reports are passed on. Chosen, not tuned: below what a reader of a progress bar notices.
POLL_INTERVAL_S = 0.02

# How a process reports to the one that called: a name, and the arguments of its handler.
Report = Callable[..., None]


def check_devices(config: Config) -> None:
    """Check that the devices of the settings are present.

    Parameters
    ----------
    config : Config
        The settings.

    Raises
    ------
    UserError
        Where they are not.
    """
    device, n_devices = config.training.device, config.training.devices
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise UserError(f"training.device: no {device} here; choose auto or cpu")
    if device == "auto":
        device = next((name for name in ("mps", "cuda") if available[name]), "cpu")
    n_present = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, n_devices)
    if n_devices > n_present:
        raise UserError(
            f"training.devices: {n_devices} asked for, and {device} has {n_present} here; "
            "choose at most that, or training.device cpu"
        )


def shard_batch(batch: Batch, config: Config, rank: int, n: int) -> tuple[Batch, float]:
    """Take the streams of a batch that belong to one of ``n`` processes.

    A stream stays with its process however many there are in this batch, for its state is kept
    there. A process without streams takes the first, with a fraction of 0: it has to take part when
    gradients are averaged.

    Parameters
    ----------
    batch : Batch
        The whole batch.
    config : Config
        The settings; ``training.batch_size`` fixes which process a stream belongs to.
    rank : int
        The process, from 0.
    n : int
        Processes.

    Returns
    -------
    shard : Batch
        The streams of this process.
    fraction : float
        Their fraction of the whole batch.
    """
    size = config.training.batch_size
    start, stop = (min(len(batch), size * r // n) for r in (rank, rank + 1))
    streams = slice(start, stop) if start < stop else slice(0, 1)
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    shard: dict[str, Any] = {k: None if t is None else t[streams] for k, t in tensors.items()}
    return Batch(**shard), (stop - start) / len(batch)


def run_distributed(
    work: Callable[..., Any], config: Config, *args: Any, handlers: dict[str, Callable[..., None]]
) -> Any:
    """Run a function in one process a device.

    Parameters
    ----------
    work : callable
        A function of a module, called as ``work(fabric, report, config, *args)``.
    config : Config
        The settings, which name the devices.
    *args : Any
        Further arguments of ``work``.
    handlers : dict of str to callable
        ``report(name, *values)`` in the first process calls ``handlers[name](*values)`` here, in
        order.

    Returns
    -------
    Any
        What ``work`` returns in the first process.

    Raises
    ------
    Exception
        The first one of any process, or of a handler; it ends all processes.
    """
    store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    messages = multiprocessing.get_context("spawn").SimpleQueue()
    results: list[Any] = []
    process_args = (store.port, messages, work, config, args)
    with without_main():
        processes = start_processes(_run_process, process_args, config.training.devices, join=False)
    done = False
    try:
        while not done:
            try:
                done = processes.join(timeout=POLL_INTERVAL_S)
            finally:  # after a process has failed, too: its exception is among the messages
                _handle_messages(messages, {**handlers, "result": results.append})
    finally:
        for process in processes.processes:
            process.kill()
            process.join()
    return results[0]


def _handle_messages(messages: Any, handlers: dict[str, Callable[..., None]]) -> None:
    while not messages.empty():
        name, values = messages.get()
        if name == "failed":
            raise values[0]
        handlers[name](*values)


def _run_process(
    rank: int,
    port: int,
    messages: Any,
    work: Callable[..., Any],
    config: Config,
    args: tuple[Any, ...],
) -> None:
    """Run one of the processes."""
    end_with_parent()
    report = _ignore if rank else lambda name, *values: messages.put((name, values))
    try:
        result = work(_join_group(rank, port, config), report, config, *args)
        report("result", result)
        distributed.destroy_process_group()
    except Exception as error:
        messages.put(("failed", (error,)))
        raise


def _ignore(name: str, *values: Any) -> None:
    pass


def _join_group(rank: int, port: int, config: Config) -> Fabric:
    """Join the process group."""
    n = config.training.devices
    # A parameter may be unused in a batch: those of a learned initial state, where the state is
    # carried over from the batch before.
    strategy = DDPStrategy(find_unused_parameters=True)
    fabric = Fabric(
        accelerator=config.training.device, devices=n, strategy=strategy, plugins=[_Rank(rank)]
    )
    distributed.init_process_group(
        "nccl" if fabric.device.type == "cuda" else "gloo",
        store=distributed.TCPStore(HOST, port, is_master=False),
        rank=rank,
        world_size=n,
    )
    fabric.launch()
    return fabric


class _Rank(LightningEnvironment):
    """States to Fabric that the processes have been created, and which one this is."""

    creates_processes_externally = True

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0
