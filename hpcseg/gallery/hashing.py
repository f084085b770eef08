"""The hashing network: features to K outputs whose signs are a code, far for cells of different clusters, near for those of one, and the
nearer the more alike these are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from hpcseg.config import Record
from hpcseg.gallery.clusters import Standard
from hpcseg.gallery.embed import make_hasher
from hpcseg.mpi import Comm
from hpcseg.training.averaging import Averaging
from hpcseg.training.samples import share_of

_PUSH = 2.0
_ALIVE = 50


class HashSettings(Record, frozen=True):
    """bits: of a code. hidden: width of the layer before them. batch: about how many cells a step takes, over all ranks. quantisation:
    weight of the term that draws outputs to -1 and 1. spread: twice the share of the bits in which cells of a cluster are
    to differ that are as far apart as most are; 0 = all have one code."""

    bits: int = 64
    hidden: int = 128
    steps: int = 1200
    batch: int = 128
    rate: float = 1e-3
    quantisation: float = 0.1
    spread: float = 0.25
    seed: int = 0


def train_hasher(
    comm: Comm, averaging: Averaging, features: np.ndarray, clusters: np.ndarray, settings: HashSettings,
    alive: Callable[[], object] = lambda: None,
) -> tuple[nn.Sequential, list[float]]:  # fmt: skip
    """A hashing network for features (n, d) of known clusters (n,), the same on all ranks, and its loss by step. Collective.

    A batch is shared out over the ranks, whose gradients add up to that of the whole. The network takes features as they are: their
    standardisation is folded into its first layer. alive: called now and then, on all ranks alike: it may be collective.
    """
    standard = Standard.of(features)
    points, labels = torch.from_numpy(standard.apply(features)).float(), torch.from_numpy(clusters)
    places = points / reach_of(points, labels)
    torch.manual_seed(settings.seed)
    hasher = make_hasher(features.shape[1], settings.hidden, settings.bits)
    hasher.load_state_dict(comm.bcast(hasher.state_dict()))
    optimizer = torch.optim.Adam(hasher.parameters(), settings.rate)
    losses = []
    for step, batch in enumerate(_batches(len(points), settings)):
        if step % _ALIVE == 0:
            alive()
        mine = share_of(np.arange(len(batch)), comm.rank, comm.size)
        loss = pair_loss(torch.tanh(hasher(points[batch])), places[batch], labels[batch], mine, settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _add_up_gradients(averaging, hasher)
        optimizer.step()
        losses.append(float(loss.detach()))
    losses = np.sum(comm.allgather(losses), axis=0).tolist()
    hasher.load_state_dict(comm.bcast(hasher.state_dict()))
    return fold_standard(hasher, standard), losses


def _batches(n: int, settings: HashSettings) -> Iterator[np.ndarray]:
    """The cells of each step: all of them, in an order drawn anew each time, in parts of nearly one size."""
    parts = max(1, round(n / settings.batch))
    for step in range(settings.steps):
        order = np.random.default_rng([settings.seed, step // parts]).permutation(n)
        yield np.array_split(order, parts)[step % parts]


def reach_of(points: Tensor, labels: Tensor) -> float:
    """How far apart two points (n, d) of one cluster are, the root of the mean square; at least 1e-6."""
    sums = torch.zeros(int(labels.max()) + 1, points.shape[1]).index_add_(0, labels, points)
    means = sums / torch.bincount(labels).clamp(min=1)[:, None]
    return max(1e-6, float((2 * ((points - means[labels]) ** 2).sum(1).mean()).sqrt()))


def pair_loss(outputs: Tensor, places: Tensor, labels: Tensor, mine: np.ndarray, settings: HashSettings) -> Tensor:
    """What the rows `mine` of a batch, outputs (n, K) in -1..1, add to its loss; over all rows the loss of the whole.

    Pairs of different clusters are to agree in at most half of the bits, those of one in all but a share that grows with the distance of
    their features, places (n, d), whose unit is that of most pairs of a cluster: so codes order what a cluster holds too. It grows up to
    twice that distance. Each cluster weighs the same, whatever its size, and so does each pair of clusters: the small ones too are to be
    told from all others. With it goes the mean of (|output| - 1)**2. (After Liu, Wang, Shan, Chen, CVPR 2016, eq. 4: a contrastive loss
    with a margin, and a term that draws outputs to signs; here of the cosine of codes in place of their distance.)
    """
    sizes = torch.bincount(labels)
    weight = 1 / (sizes[labels[mine], None] * sizes[labels][None])
    same = labels[mine, None] == labels[None]
    # The cosine: smaller outputs alone are no other code.
    signs = nn.functional.normalize(outputs)
    agreement = signs[mine] @ signs.T
    clusters = int((sizes > 0).sum())
    alike = 1 - settings.spread * torch.cdist(places[mine], places).clamp(max=2)
    pull = (weight * (alike - agreement) ** 2)[same].sum() / clusters
    push = (weight * agreement.clamp(min=0) ** 2)[~same].sum() / max(1, clusters * (clusters - 1))
    return pull + _PUSH * push + settings.quantisation * ((outputs[mine].abs() - 1) ** 2).sum() / outputs.numel()


def _add_up_gradients(averaging: Averaging, network: nn.Module) -> None:
    parameters = list(network.parameters())
    sizes = [p.numel() for p in parameters]
    flat = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])
    for parameter, gradient in zip(parameters, averaging.add_up(flat, sizes).split(sizes), strict=True):
        parameter.grad = gradient.view(parameter.shape)


@torch.no_grad()
def fold_standard(hasher: nn.Sequential, standard: Standard) -> nn.Sequential:
    """The hashing network of features as they are, from that of standardised ones."""
    first = hasher[0]
    assert isinstance(first, nn.Linear)
    weight = first.weight.double() / standard.scale
    first.bias.copy_(first.bias - weight @ torch.from_numpy(standard.mean))
    first.weight.copy_(weight)
    return hasher.eval()
