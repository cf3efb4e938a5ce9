"""Steps without a finite gradient leave the weights alone; many in a row end a training."""

import pytest
import torch

from partrm.training_guard import MOST_SKIPPED, StepGuard, TrainingError


def step(guard: StepGuard, network: torch.nn.Module, factor: float) -> int:
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    loss = factor * network(torch.ones(2, 3)).square().sum()
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    skipped = guard.cleared(loss.detach(), norm, gradients)
    optimizer.step()
    optimizer.zero_grad()
    return int(skipped)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_only_finite_steps_change_the_weights(bad):
    torch.manual_seed(0)
    network, guard = torch.nn.Linear(3, 2), StepGuard.on(torch.device("cpu"))
    before = network.weight.detach().clone()
    assert step(guard, network, bad) == 1
    assert torch.equal(network.weight, before)
    assert step(guard, network, 1.0) == 1
    assert not torch.equal(network.weight, before)
    assert bool(network.weight.isfinite().all())
    assert step(guard, network, bad) == 2
    guard.check(3)


def test_as_many_in_a_row_as_allowed_end_the_training():
    torch.manual_seed(0)
    network, guard = torch.nn.Linear(3, 2), StepGuard.on(torch.device("cpu"))
    for factor in [float("nan")] * (MOST_SKIPPED - 1) + [1.0] + [float("nan")] * (MOST_SKIPPED - 1):
        step(guard, network, factor)
        guard.check(0)
    step(guard, network, float("nan"))
    step(guard, network, 1.0)
    with pytest.raises(TrainingError, match=f"step 7: .*{MOST_SKIPPED} steps in a row"):
        guard.check(7)
