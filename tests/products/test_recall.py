"""The picture of precision and recall."""

from __future__ import annotations

from matplotlib import image

from hpcseg.matching import Figures
from hpcseg.products.recall import draw_recall


def test_curves_and_their_threshold_are_drawn_also_where_nothing_was_found(tmp_path):
    along = [(level / 10, Figures(20, 30 - 3 * level, 18 - 2 * level)) for level in range(1, 9)]
    nothing, pictures = [(0.0, Figures(5, 0, 0))], []
    for k, (curves, threshold) in enumerate((({"test": along}, 0.3), ({"test": along}, None), ({"test": nothing}, 0.5))):
        draw_recall(tmp_path / f"{k}.png", curves, threshold)
        pictures.append(image.imread(tmp_path / f"{k}.png"))
    assert all(picture.shape[1] > 1000 for picture in pictures)
    assert (pictures[0] != pictures[1]).any()
