"""Contact sheets, and colours of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import image

from hpcseg.errors import UsageError
from hpcseg.products.palette import number_color
from hpcseg.products.sheet import draw_sheet

RED, GREEN, BLUE = (200, 30, 40), (20, 160, 60), (30, 60, 210)


def plain(color, height=40, width=40):
    return np.full((height, width, 3), color, np.uint8)


def area(path, color):
    """How many pixels of a PNG have a colour, and the centre of them, (row, col)."""
    pixels = np.rint(image.imread(path)[..., :3] * 255)
    there = np.argwhere((np.abs(pixels - color) < 3).all(-1))
    return len(there), there.mean(0)


def test_every_picture_is_there_in_rows(tmp_path):
    draw_sheet(tmp_path / "sheet.png", [plain(RED), plain(GREEN), plain(BLUE)], ["one\nsecond line", "two", "three"], "title", "subtitle")
    (n, red), (_, green), (_, blue) = (area(tmp_path / "sheet.png", color) for color in (RED, GREEN, BLUE))
    assert n > 40_000
    assert red[0] == pytest.approx(green[0], abs=2) == pytest.approx(blue[0], abs=2)
    assert red[1] < green[1] < blue[1]


def test_pictures_have_one_scale(tmp_path):
    draw_sheet(tmp_path / "sheet.png", [plain(RED), plain(BLUE, 20, 40)], ["", ""])
    assert area(tmp_path / "sheet.png", BLUE)[0] == pytest.approx(area(tmp_path / "sheet.png", RED)[0] / 2, rel=0.03)


def test_more_pictures_than_fit_a_row_make_rows(tmp_path):
    draw_sheet(tmp_path / "sheet.png", [plain(GREEN)] * 12 + [plain(RED)], ["x"] * 13)
    assert area(tmp_path / "sheet.png", RED)[1][0] > area(tmp_path / "sheet.png", GREEN)[1][0] + 200


def test_a_long_caption_is_cut_at_its_square(tmp_path):
    draw_sheet(tmp_path / "long.png", [plain(RED)] * 4, ["$a_name_of_a_scene" * 9, "", "", ""])
    dark = image.imread(tmp_path / "long.png")[-80:, :, :3].max(-1) < 0.5
    assert dark[:, : dark.shape[1] // 4].any()
    assert not dark[:, 300:].any()


def test_without_pictures_or_a_place_there_is_no_sheet(tmp_path):
    with pytest.raises(UsageError, match="no pictures"):
        draw_sheet(tmp_path / "sheet.png", [], [])
    with pytest.raises(UsageError, match="cannot be written"):
        draw_sheet(tmp_path / "absent" / "sheet.png", [plain(RED)], ["one"])


def test_numbers_have_colours_of_their_own():
    colors = [number_color(k) for k in range(253)]
    assert len(set(colors)) == 253
    assert all(len(color) == 7 and int(color[1:], 16) >= 0 for color in colors)
