"""What all networks of ours have in common."""

from __future__ import annotations

from torch import nn


class SegmentationNetwork(nn.Module):
    """Input (N, bands, H, W) with H and W multiples of `stride`; output logits (N, logits, H, W).

    stride: of the deepest level. halo: pixels beyond a core, at origins aligned to the stride, that its logits depend on.
    """

    stride: int
    halo: int

    @property
    def aligned_halo(self) -> int:
        """The halo, rounded up to the stride."""
        return -(-self.halo // self.stride) * self.stride
