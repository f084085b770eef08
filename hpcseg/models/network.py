"""What all networks of ours have in common."""

from __future__ import annotations

from torch import nn


class SegmentationNetwork(nn.Module):
    """Input (N, bands, H, W) with H and W multiples of `stride`; output logits (N, logits, H, W).

    stride: of the deepest level. halo: pixels beyond a core, at origins aligned to the stride, that its logits depend on.
    name: that it was built by. per_class: parts whose size follows the number of classes. fixed: parts that stay in evaluation mode
    during training, so that their batch norm keeps its statistics and nothing of them is dropped. fixed_when_tuned: parts that become so
    when weights from elsewhere are loaded.
    """

    stride: int
    halo: int
    name: str = ""
    per_class: tuple[str, ...] = ("head",)
    fixed: frozenset[str] = frozenset()
    fixed_when_tuned: frozenset[str] = frozenset()

    @property
    def aligned_halo(self) -> int:
        """The halo, rounded up to the stride."""
        return -(-self.halo // self.stride) * self.stride

    def train(self, mode: bool = True) -> SegmentationNetwork:
        """Training or evaluation mode; the fixed parts stay in evaluation mode."""
        super().train(mode)
        for part in self.fixed:
            self.get_submodule(part).eval()
        return self


def start_for_relu(network: nn.Module) -> None:
    """Weights of all convolutions drawn so that ReLU keeps the signal's variance, biases 0 (He, Zhang, Ren, Sun, ICCV 2015, eq. 14)."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
