"""What ranks do together over a plan: communicators of a scene's owners, in an order that cannot form a chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcseg.mpi import Comm, create_group
from hpcseg.partition import Plan


def owner_groups(comm: Comm, plan: Plan) -> Iterator[tuple[int, Comm]]:
    """(scene, communicator of its owners) for each scene that this rank shares with others; collective over the owners.

    First all even ones of the list of shared scenes, then all odd: a rank's two are neighbours in that list, so nobody waits for
    more than one other group.
    """
    shared = plan.shared_scenes()
    mine = {scene for scene, _ in plan.of_rank(comm.rank)}
    for parity in (0, 1):
        for number in range(parity, len(shared), 2):
            if shared[number] in mine:
                yield shared[number], create_group(comm, plan.owners(shared[number]), tag=parity)


def merge_at_owners(comm: Comm, plan: Plan, parts: dict[int, Any]) -> dict[int, Any]:
    """Accumulators by scene, merged over a scene's owners: each is returned on the first of them alone. Collective."""
    result = dict(parts)
    for scene, group in owner_groups(comm, plan):
        merged = group.gather(result.pop(scene, None))
        if merged is not None:
            for part in merged:
                if part is not None:
                    result[scene] = result[scene].merge(part) if scene in result else part
        group.Free()
    return result
