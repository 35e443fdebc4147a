"""What `vmap` makes of a pack: the operations of one trial, each of them for all members.

So layers fused by hand, as grouped convolutions and batched products, could save no more than the
few copies that are counted here, and what it takes norms apart into.
"""

import pytest
import torch

from tests.discovery import component_classes
from tests.factories import member
from tests.operations import Operations
from tune_vae.science.networks import Network
from tune_vae.science.networks.counts import Counts
from tune_vae.science.networks.resnet import Resnet
from tune_vae.training.lifting import example
from tune_vae.training.pack import Knobs, Pack, fresh_row
from tune_vae.training.trainer import build_vae

MEMBERS = 8
NETWORKS = [kind() for kind in component_classes("science.networks")]
NORMED = (Counts, Resnet)
KNOBS = Knobs(beta=1.0, lr=1e-3, weight_decay=0.0, grad_clip=1.0)


def counted(network: Network, size: int) -> Operations:
    """A step of a pack of so many."""
    vae = build_vae(member(0, network=network), (1, 16, 16))
    pack = Pack(vae, [fresh_row(vae)] * size, [KNOBS] * size)
    examples = [example(vae, 8, seed=k) for k in range(size)]
    given = [torch.stack(column) for column in zip(*examples, strict=True)]
    with Operations() as seen:
        pack.step(given[0], given[1], torch.ones(size), given[2])
    return seen


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_pack_takes_the_products_of_one_trial_each_for_all_members(network: Network) -> None:
    alone, together = counted(network, 1), counted(network, MEMBERS)
    assert together.products == alone.products > 0
    assert together.groups <= {MEMBERS}
    most = 1.7 if isinstance(network, NORMED) else 1.2
    assert together.all <= most * alone.all
