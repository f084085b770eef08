"""Statistics of scenes, the same bits for any number of ranks: the first reducers on the stream.

Values are counted in levels: u8, u16 and i16 as they are, all others in 65,536 steps between the scene's own limits, which an
earlier pass finds. All statistics follow from the counts alone, also those over many scenes together.
"""

from hpcseg.statistics.counts import Counts, Histogram, Limits
from hpcseg.statistics.run import count_scenes, statistics
from hpcseg.statistics.summary import Above, BandStatistics, Bins, Levels, above, bin_levels, describe, levels_of, summarise
from hpcseg.statistics.table import Row, line_of, tabulate, write_table

__all__ = [
    "Above", "BandStatistics", "Bins", "Counts", "Histogram", "Levels", "Limits", "Row", "above", "bin_levels", "count_scenes",
    "describe", "levels_of", "line_of", "statistics", "summarise", "tabulate", "write_table",
]  # fmt: skip
