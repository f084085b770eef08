"""hpcseg synth: each kind of scenes with options of its own."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic.files import read

from hpcseg.synthetic import AnimalScene, BuildingScene, IceScene, SarScene
from hpcseg.tiles import Window


def test_ice_with_leads(hpcseg, tmp_path):
    code, text, _ = hpcseg("synth", "ice", tmp_path, "--size", "90x70", "--seed", 4, "--lead-width", 20, "--clouds", 0)
    assert (code, text) == (0, f"wrote {tmp_path}/ice_000.tif\nwrote {tmp_path}/truth/ice_000.tif\n")
    picture, truth = IceScene(4, 0, 90, 70, clouds=0, lead_width=20).block(Window(0, 0, 90, 70))
    np.testing.assert_array_equal(read(tmp_path / "ice_000.tif"), picture)
    np.testing.assert_array_equal(read(tmp_path / "truth/ice_000.tif"), truth)


def test_radar_before_and_during_a_flood(hpcseg, tmp_path):
    (tmp_path / "sar.toml").write_text('scale = "db"\nlooks = 10\n')
    words = ("--size", 80, "--count", 2, "--water", 0.1, "--flood", 0.2, "--wind", 0, "--shadow", 0.1, "--swath")
    code, text, _ = hpcseg("synth", "sar", tmp_path, *words, "--config", tmp_path / "sar.toml")
    assert code == 0
    assert len(text.splitlines()) == 6
    scene = SarScene(1, 1, 80, 80, water=0.1, flood=0.2, wind=0, shadow=0.1, looks=10, scale="db", swath=True)
    window = Window(0, 0, 80, 80)
    np.testing.assert_array_equal(read(tmp_path / "sar_001.tif"), scene.block(window)[0][0])
    np.testing.assert_array_equal(read(tmp_path / "before/sar_001.tif"), scene.before(window)[0])
    np.testing.assert_array_equal(read(tmp_path / "truth/sar_001.tif"), scene.block(window)[1])


def test_towns_of_half_metre_pixels(hpcseg, tmp_path):
    code, text, _ = hpcseg("synth", "buildings", tmp_path, "--size", 90, "--pixel", 0.5, "--settled", 0.9, "--woods", 0)
    assert (code, text) == (0, f"wrote {tmp_path}/buildings_000.tif\nwrote {tmp_path}/truth/buildings_000.tif\n")
    picture, truth = BuildingScene(1, 0, 90, 90, pixel=0.5, settled=0.9, woods=0.0).block(Window(0, 0, 90, 90))
    np.testing.assert_array_equal(read(tmp_path / "buildings_000.tif"), picture)
    np.testing.assert_array_equal(read(tmp_path / "truth/buildings_000.tif"), truth)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), "command"),
        (("snow", "d"), "ice, sar, buildings"),
        (("sar", "d", "--clouds", "0.1"), "--clouds"),
        (("sar", "d", "--scale", "dB"), "'amplitude', 'power', 'db'"),
        (("ice", "d", "--lead-width", "-3"), "--lead-width"),
        (("ice", "d", "--size", "9y9"), "HEIGHTxWIDTH"),
        (("sar", "d", "--water", "0.6", "--flood", "0.5"), "water and flood"),
    ],
)
def test_wrong_use_is_one_line_that_names_it(hpcseg, tmp_path, monkeypatch, words, names):
    monkeypatch.chdir(tmp_path)
    code, _, text = hpcseg("synth", *words)
    assert code == 2
    assert text.count("\n") == 1
    assert names in text
    assert list(tmp_path.iterdir()) == []


def test_animals(hpcseg, tmp_path):
    code, text, _ = hpcseg("synth", "animals", tmp_path, "--size", 90, "--seed", 4, "--density", 1, "--pixel", 0.3)
    names = "animals_000.tif", "truth/animals_000.geojson", "animals.csv"
    assert (code, text) == (0, "".join(f"wrote {tmp_path}/{name}\n" for name in names))
    picture, _ = AnimalScene(4, 0, 90, 90, density=1, pixel=0.3).block(Window(0, 0, 90, 90))
    np.testing.assert_array_equal(read(tmp_path / "animals_000.tif"), picture)
