"""What the water teacher takes radar values for: their scale, its options, and levels of 0 to 255 between two percentiles in dB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpcseg.errors import UsageError
from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.sfs import FEATURES
from hpcseg.labels.teacher import Fit

TEXTURE = Sfs(spectral=15, spatial=50)
_FACTOR = {"amplitude": 20.0, "power": 10.0}


@dataclass(frozen=True)
class WaterOptions:
    """scale: of the values: amplitude, power, or dB. method: amplitude = the mean level itself; sfs = the mean of a texture of the levels
    of linear power, of which water has much: it is even. feature, sfs: which texture, and its settings. polarity: the side of the threshold
    where water lies, auto = below for amplitude, above for sfs. db_per_unit: of values in dB, 0.1 where ten units are one.

    fallback: threshold where no cell has two modes, in the scene's own values, or of the texture. radius: of the square of the mean.
    cell_share: valid pixels that a cell needs to be judged. speckle: lee = Lee's filter of the values in power comes first; looks: theirs,
    those of Sentinel-1's ground range products unless told; speckle_radius: of its square.

    doubt: share of all levels on either side of the threshold that is not labelled, 255. A network that learns from the rest alone sets
    its own border between them, from pixels where the mean is blurred over a shore or a river thinner than its square.
    """

    scale: Literal["amplitude", "power", "db"]
    method: Literal["amplitude", "sfs"] = "amplitude"
    feature: str = "length"
    sfs: Sfs = TEXTURE
    polarity: Literal["auto", "below", "above"] = "auto"
    db_per_unit: float = 1.0
    fallback: float | None = None
    radius: int = 3
    cell_share: float = 0.5
    speckle: Literal["none", "lee"] = "none"
    looks: float = 4.4
    speckle_radius: int = 2
    doubt: float = 0.0

    @property
    def above(self) -> bool:
        """Whether water lies above the threshold."""
        return self.polarity == "above" or (self.polarity == "auto" and self.method == "sfs")

    @property
    def limit(self) -> float:
        """The greatest value of a texture that is told apart: a line's length, or an angle."""
        return 1.6 if self.feature == "ratio" else 2.0 * self.sfs.spatial

    def check(self) -> None:
        """Raises UsageError naming the option at fault."""
        self.sfs.check()
        if self.feature not in FEATURES:
            raise UsageError(f"--feature {self.feature}: wanted one of {', '.join(FEATURES)}")
        for name, value in {"db-per-unit": self.db_per_unit, "looks": self.looks}.items():
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"--{name} {value:g}: wanted more than 0")
        if not 0 <= self.doubt < 0.5:
            raise UsageError(f"--doubt {self.doubt:g}: wanted a share of 0 to below 0.5")
        if not 1 <= self.speckle_radius <= 50:
            raise UsageError(f"--speckle-radius {self.speckle_radius}: wanted 1 to 50 pixels")


def to_db(value: float, options: WaterOptions) -> float:
    """A value in dB; that of no backscatter is very low, not infinite."""
    return value * options.db_per_unit if options.scale == "db" else _FACTOR[options.scale] * math.log10(max(value, 1e-30))


def from_db(value: float, options: WaterOptions) -> float:
    """The inverse of `to_db`."""
    return value / options.db_per_unit if options.scale == "db" else 10 ** (value / _FACTOR[options.scale])


def find_limits(percentiles: Sequence[float], options: WaterOptions) -> Fit:
    """The percentiles in dB, and the 255 values at which the level rises by one: evenly in dB, or in power for textures.

    The values are the scene's own, or in power where a speckle filter comes first.
    """
    low, high = (to_db(value, options) for value in percentiles)
    shares = [(k + 0.5) / 255 for k in range(255)]
    if options.method == "sfs":
        least, most = 10 ** (low / 10), 10 ** (high / 10)
        steps = [10 * math.log10(least + (most - least) * share) for share in shares]
    else:
        steps = [low + (high - low) * share for share in shares]
    own = [10 ** (step / 10) if options.speckle == "lee" else from_db(step, options) for step in steps]
    return {"low": low, "high": high, "steps": own}
