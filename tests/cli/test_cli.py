"""Commands: wrong use is one line that names it and code 2, a configuration gives defaults, flags win."""

from __future__ import annotations

import importlib
import json
import time

import h5py
import numpy as np
import pytest

from hpcseg import store
from hpcseg.errors import StoppedError, StoreError
from hpcseg.georeference import Georeference
from hpcseg.store import Layout
from hpcseg.tiles import Grid


@pytest.fixture
def folder(make_model, make_scene, tmp_path):
    make_model(tmp_path / "m")
    make_scene(tmp_path / "a.tif", 100, 120)
    return tmp_path


@pytest.fixture
def asked(monkeypatch, hpcseg, tmp_path):
    """asked(words..., **keys) gives the Options that `predict` would run with, the keys written to a TOML file."""

    seen = []

    def catch(comm, options, stop, choose):
        seen.append(options)
        raise StoppedError("seen")

    def parse(*words, text=""):
        monkeypatch.setattr("hpcseg.cli.predict.predict", catch)
        (tmp_path / "run.toml").write_text(text)
        code, _, error = hpcseg("predict", *words, "--config", tmp_path / "run.toml")
        assert code == StoppedError.exit_code, error
        return seen.pop()

    return parse


NEEDED = ("a.tif", "--model", "m", "--out", "o")


def one_line(text, *parts):
    """Whether text is one line of ours that has all these parts."""
    return text.count("\n") == 1 and text.startswith("hpcseg: ") and all(part in text for part in parts)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--bogus",), ["--bogus"]),
        (("--core", "big"), ["--core", "big"]),
        (("--core", "-1"), ["--core", "-1"]),
        (("--precision", "fp8"), ["--precision", "fp8", "bf16"]),
        (("--nodata-rule", "some"), ["--nodata-rule", "all", "any"]),
        (("--bands", "3,x"), ["--bands", "3,x"]),
        (("--threads", "0"), ["--threads"]),
        (("--stall", "0"), ["--stall"]),
        (("--config", "absent.toml"), ["--config", "absent.toml"]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_wrong_option_is_one_line_that_names_it(hpcseg, words, named):
    code, _, text = hpcseg("predict", *NEEDED, *words)
    assert code == 2
    assert one_line(text, *named), text


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_what_is_needed_and_missing_is_named(hpcseg, missing):
    words = NEEDED[:missing] + NEEDED[missing + (1 if missing == 0 else 2) :]
    code, _, text = hpcseg("predict", *words)
    assert code == 2
    assert one_line(text, {0: "SCENES", 1: "--model", 3: "--out"}[missing]), text


def test_only_the_first_rank_says_what_is_wrong(hpcseg):
    assert hpcseg("predict", *NEEDED, "--bogus", first=False) == (2, "", "")


def test_help_is_no_error(hpcseg):
    code, text, error = hpcseg("predict", "--help")
    assert (code, error) == (0, "")
    assert "--model" in text


def test_an_unknown_key_is_one_line_with_file_and_choices(hpcseg, tmp_path):
    (tmp_path / "run.toml").write_text("modle = 'm'")
    code, _, text = hpcseg("predict", *NEEDED, "--config", tmp_path / "run.toml")
    assert code == 2
    assert one_line(text, "run.toml", "'modle'", "model", "precision"), text


@pytest.mark.parametrize("text", ["core = ", "core = 'big'", "precision = 'fp8'", "bands = ['x']", "confidence = 'maybe'"])
def test_a_wrong_value_in_a_configuration_is_one_line_that_names_its_key(hpcseg, tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    code, _, error = hpcseg("predict", *NEEDED, "--config", tmp_path / "run.toml")
    assert code == 2
    assert one_line(error, "run.toml" if text == "core = " else text.split()[0]), error


def test_a_configuration_gives_what_is_not_said(asked):
    text = "core = 512\nnodata-rule = 'any'\nnodata = 0.5\nconfidence = true\nmodel = 'm'\nout = 'o'\nthreads = 3"
    options = asked("a.tif", text=text)
    assert (options.core, options.nodata_rule, options.nodata, options.confidence, options.threads) == (512, "any", 0.5, True, 3)
    assert (options.model, str(options.out), options.scenes) == ("m", "o", ("a.tif",))


def test_flags_win_over_the_configuration(asked):
    options = asked(*NEEDED, "--core", "256", "--precision", "fp32", text="core = 512\nprecision = 'bf16'\nmodel = 'other'\nhalo = 8")
    assert (options.core, options.precision, options.model, options.halo) == (256, "fp32", "m", 8)


@pytest.mark.parametrize("text", ["bands = [3, 2, 1]", "bands = '3,2,1'"])
def test_bands_may_be_a_list_in_a_configuration(asked, text):
    assert asked(*NEEDED, text=text).bands == (3, 2, 1)


@pytest.mark.parametrize("text", ["assets = ['B04', 'B02']", "assets = 'B04, B02'"])
def test_assets_may_be_a_list_in_a_configuration(asked, text):
    assert asked(*NEEDED, text=text).assets == ("B04", "B02")


def test_scenes_may_stand_in_a_configuration(asked):
    assert asked(*NEEDED[1:], text="scenes = ['a.tif', 'b.tif']").scenes == ("a.tif", "b.tif")


def test_keys_are_spelt_as_the_flags_are(asked):
    assert asked(*NEEDED, text="cache = 7").cache == 7 << 20


def test_every_flag_is_a_key(hpcseg, tmp_path):
    module = importlib.import_module("hpcseg.cli.export")
    flags = [name.lstrip("-") for each in module.command.params for name in each.opts if name.startswith("--") and name != "--config"]
    for flag in flags:
        (tmp_path / "run.toml").write_text(f"{flag} = 3")
        _, _, text = hpcseg("export", tmp_path, "--to", "png", "--config", tmp_path / "run.toml")
        assert "no key" not in text, flag


def test_a_key_of_a_flag_is_true_or_false(hpcseg, folder):
    (folder / "run.toml").write_text("strict = 3")
    code, _, text = hpcseg("predict", folder / "a.tif", "--model", folder / "m", "--out", folder / "o", "--config", folder / "run.toml")
    assert code == 2
    assert one_line(text, "strict is 3, wanted true or false"), text


def test_wrong_use_that_the_stage_finds_is_one_line_and_code_2(hpcseg, folder):
    words = (folder / "a.tif", "--model", folder / "m", "--out", folder / "o")
    for more, named in ((("--core", 50), "--core 50"), (("--probability", "ice"), "--probability ice")):
        code, _, text = hpcseg("predict", *words, *more)
        assert code == 2
        assert one_line(text, named), text
    code, _, text = hpcseg("predict", folder / "a.tif", "--model", "absent", "--out", folder / "o")
    assert code == 2
    assert one_line(text, "no model 'absent'", "sea-ice"), text


def test_a_map_is_made_verified_told_of_and_exported(hpcseg, folder):
    out = folder / "o"
    code, text, _ = hpcseg("predict", folder / "a.tif", "--model", folder / "m", "--out", out, "--core", 64, "--precision", "fp32")
    assert code == 0
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert lines["tiles"] == "4 of 4"
    assert lines["failed_tiles"] == "0"
    assert {"throughput", "load_balance", "imbalance", "wall", "precision"} <= lines.keys()
    code, text, _ = hpcseg("verify", out)
    assert (code, text) == (0, "files=1\ntiles=4\nwrong_tiles=0\n")
    code, text, _ = hpcseg("status", out)
    assert code == 0
    assert "a: 0 missing, 4 done" in text
    assert "complete=100.00 %" in text
    code, text, _ = hpcseg("export", out, "--to", "cog")
    assert code == 0
    assert text.startswith(f"wrote {out}")


def test_verify_names_the_tile_whose_bytes_are_wrong(hpcseg, folder, alone):
    out = folder / "o"
    hpcseg("predict", folder / "a.tif", "--model", folder / "m", "--out", out, "--core", 64, "--precision", "fp32")
    file = store.Prediction(out / "a.h5", store.read(out / "a.h5").layout, alone)
    file.clear([3])
    file.write_failed(1)
    file.close()
    code, text, _ = hpcseg("verify", out)
    assert code == 3
    assert "a rows 0:64, cols 64:120: failed" in text
    assert "a rows 64:100, cols 64:120: bytes differ from their CRC" in text
    assert "wrong_tiles=2" in text


@pytest.mark.parametrize("name", ["verify", "status"])
def test_a_folder_without_maps_is_refused_by_name(hpcseg, tmp_path, name):
    code, _, text = hpcseg(name, tmp_path)
    assert code == 2
    assert one_line(text, str(tmp_path), "no prediction files"), text


@pytest.mark.parametrize(("words", "named"), [
    (("--part", "0/3"), "0/3"), (("--part", "4/3"), "4/3"), (("--part", "3"), "wanted K/N"), (("--mpi-io", "striping_factor"), "KEY=VALUE"),
    (("--mpi-io", "=4"), "KEY=VALUE"), (("--stripe", "-1"), "--stripe"),
])  # fmt: skip
def test_wrong_parts_and_hints_are_one_line(hpcseg, folder, words, named):
    code, _, text = hpcseg("predict", folder / "a.tif", "--model", folder / "m", "--out", folder / "o", *words)
    assert code == 2
    assert one_line(text, named), text


def test_jobs_of_an_array_are_told_their_part_by_a_variable(asked, folder, monkeypatch):
    words = (folder / "a.tif", "--model", folder / "m", "--out", folder / "o")
    assert asked(*words).part == (1, 1)
    assert asked(*words, text='part = "2/3"\nmpi-io = ["a=b", "c=d=e"]').part == (2, 3)
    monkeypatch.setenv("HPCSEG_PART", "7/10")
    assert asked(*words).part == (7, 10)
    assert asked(*words, "--part", "1/2").part == (1, 2)


def write_map(path, status):
    """A prediction file of four tiles with these states."""
    store.create(path, Layout(Grid(128, 128, 64, 0), 64), {"core": 64, "halo": 0}, {}, Georeference())
    with h5py.File(path, "r+") as file:
        file["tiles/status"][...] = np.reshape(status, (2, 2))


def test_status_tells_what_each_map_lacks(hpcseg, tmp_path):
    write_map(tmp_path / "a.h5", [1, 1, 2, 3])
    write_map(tmp_path / "b.h5", [1, 1, 1, 0])
    write_map(tmp_path / ".b.scratch.h5", [0, 0, 0, 0])
    code, text, _ = hpcseg("status", tmp_path)
    assert code == 0
    assert text.splitlines() == [
        "a: 0 missing, 2 done, 1 nothing to do, 1 failed",
        "b: 1 missing, 3 done, 0 nothing to do, 0 failed",
        "missing_tiles=1",
        "done_tiles=5",
        "nothing_to_do_tiles=1",
        "failed_tiles=1",
        "complete=75.00 %",
    ]


def test_status_of_many_maps_names_the_first_that_are_not_complete(hpcseg, tmp_path):
    for k in range(30):
        write_map(tmp_path / f"s{k:02}.h5", [1, 1, 1, k % 5 > 0])
    _, text, _ = hpcseg("status", tmp_path)
    lines = text.splitlines()
    assert lines[:6] == [f"s{k:02}: 1 missing, 3 done, 0 nothing to do, 0 failed" for k in range(0, 30, 5)]
    assert lines[6:8] == ["24 scenes are complete", "missing_tiles=6"]
    for k in range(30):
        write_map(tmp_path / f"s{k:02}.h5", [0, 1, 1, 1])
    _, text, _ = hpcseg("status", tmp_path)
    assert text.splitlines()[19].startswith("s19:")
    assert text.splitlines()[20] == "and 10 more that are not complete"


def test_status_names_a_map_whose_states_are_damaged(hpcseg, tmp_path):
    write_map(tmp_path / "a.h5", [1, 1, 1, 9])
    code, _, error = hpcseg("status", tmp_path)
    assert code == StoreError.exit_code
    assert "a.h5 is not a prediction file of hpcseg" in error


def test_status_of_a_run_that_goes_on_tells_its_rate_and_its_end(hpcseg, tmp_path):
    write_map(tmp_path / "a.h5", [1, 1, 1, 0])
    for name, done in ((".1of2", 10), (".2of2", 30)):
        pace = {"done": done, "total": 50, "seconds": 20.0, "at": time.time() - 7}
        (tmp_path / f".progress{name}.json").write_text(json.dumps(pace))
    code, text, _ = hpcseg("status", tmp_path)
    assert code == 0
    assert text.splitlines()[0] == "a: 1 missing, 3 done, 0 nothing to do, 0 failed"
    assert text.splitlines()[-5] == f"complete={100 * 3 / (3 + 60):.2f} %"
    assert text.splitlines()[-4:] == ["run=40 of 100 tiles", "rate=2.00 tiles/s", "time_left=1.3 min", "last_word=7 s ago"]


def test_stats_prints_a_line_a_band(hpcseg, folder):
    code, text, _ = hpcseg("stats", folder / "a.tif")
    assert code == 0
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a band 1", "a band 2", "a band 3"]
    assert all("count=12000 mean=" in line for line in lines)


def test_stats_writes_what_it_found(hpcseg, folder, tmp_path):
    code, text, _ = hpcseg("stats", folder / "a.tif", "--above", "100", "--percentiles", "50", "--out", tmp_path / "new" / "a.json")
    assert code == 0
    assert all(" p50=" in line and " mean_rest_0=" in line for line in text.splitlines()[:3])
    bands = json.loads((tmp_path / "new" / "a.json").read_text())["bands"]
    assert [(each["scene"], each["band"], each["count"]) for each in bands] == [("a", 1, 12000), ("a", 2, 12000), ("a", 3, 12000)]
    assert list(bands[0]["percentiles"]) == ["50"]
    assert bands[0]["above"]["threshold"] == 100
    assert "histogram" not in bands[0]
    code, _, _ = hpcseg("stats", folder / "a.tif", "--histogram", "8", "--out", tmp_path / "a.csv")
    head, *bins = (tmp_path / "a.csv").read_text().splitlines()
    assert head == "scene,band,from,to,count"
    assert sum(int(line.split(",")[-1]) for line in bins) == 3 * 12000
    code, _, _ = hpcseg("stats", folder / "a.tif", "--out", tmp_path / "a.csv")
    head, *lines = (tmp_path / "a.csv").read_text().splitlines()
    assert head.startswith("scene,band,scenes,count,mean,std,min,max,p1,")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("wrong", "names"),
    [(("--percentiles", "5,101"), "101"), (("--above", "nan"), "nan"), (("--histogram", "9"), "--out"), (("--out", "a.txt"), "a.txt")],
)
def test_stats_names_what_it_cannot_do(hpcseg, folder, wrong, names):
    code, _, text = hpcseg("stats", folder / "a.tif", *wrong)
    assert code == 2
    assert one_line(text, names), text


def test_models_lists_networks_and_shipped_models_with_their_parameters(hpcseg):
    code, text, _ = hpcseg("models", "unet", "sea-ice")
    assert code == 0
    first, second = text.splitlines()
    assert first.startswith("unet: network")
    assert "parameters=13395329" in first
    assert "halo=112 px" in first
    assert second.startswith("sea-ice: model (unet-light)")
    code, _, text = hpcseg("models", "absent")
    assert code == 2
    assert one_line(text, "absent"), text
