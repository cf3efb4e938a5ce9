"""What ``torchrun`` tells the processes that it starts, which it does in the environment alone."""

import os

import torch


def restarts() -> int:
    """How often all processes have been started again because one died; 0 without ``torchrun``."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def meet_again(backend: str) -> None:
    """Let the processes of one machine that were started again find each other.

    The store in which they look still holds the addresses of those that have died, and PyTorch 2.13 takes them for
    theirs (pytorch/pytorch#135712). Of several machines each counts its own restarts, so that a name told from the
    count may differ; see docs/train.md.
    """
    told, dist = os.environ, torch.distributed
    shared = told.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and told.get("GROUP_WORLD_SIZE") == "1"
    if not restarts() or not shared or dist.is_initialized():
        return
    store, rank, count = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"restart-{restarts()}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
