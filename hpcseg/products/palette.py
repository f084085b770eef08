"""Colours for what has numbers and no colours of its own, such as buckets."""

from __future__ import annotations

from colorsys import hls_to_rgb

# Kelly's order of greatest contrast (Color Engineering 3(6), 1965), without white, black and grey, which mean other things on maps.
_FIRST = (
    "#f3c300", "#875692", "#f38400", "#a1caf1", "#be0032", "#008856", "#e68fac", "#0067a5", "#f99379", "#604e97", "#f6a600", "#b3446c",
    "#dcd300", "#882d17", "#8db600", "#654522", "#e25822", "#2b3d26", "#c2b280",
)  # fmt: skip
_GOLDEN = 0.6180339887498949


def number_color(k: int) -> str:
    """The colour of a number, #rrggbb: those below 19 are told apart easily, the others repeat none of them."""
    if k < len(_FIRST):
        return _FIRST[k]
    parts = hls_to_rgb(k * _GOLDEN % 1, (0.38, 0.5, 0.62)[k % 3], 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
