"""hpcseg doctor: what it finds wrong with a binding, in words that say what to do, and what it prints of a machine that is well."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mpi.launch import needs_mpirun, run

from hpcseg.cli import doctor
from hpcseg.cli.doctor import Advice, Rank, find_installed, judge, spell, table


def rank(number, cores=(0, 1), host="n1", **others):
    return Rank(number, host, f"{number} SLURM_LOCALID", cores, len(cores), "-", "a processor", **others)


def texts(ranks, launched=0):
    return [advice.text for advice in judge(ranks, launched)]


def test_ranks_with_cores_of_their_own_are_well():
    assert judge([rank(0, (0, 1)), rank(1, (2, 3)), rank(2, (0, 1), "n2"), rank(3, (2, 3), "n2")]) == []


def test_ranks_that_share_enough_cores_are_well():
    assert judge([rank(k, (0, 1)) for k in range(2)]) == []


def test_ranks_that_share_one_core_are_named():
    (text,) = texts([rank(0, (5,)), rank(1, (5,)), rank(2, (6,))])
    assert "n1: ranks 0-1 share 1 core (5)" in text
    assert "--map-by slot:PE=n" in text


def test_the_same_core_number_on_two_hosts_is_not_shared():
    assert judge([rank(0, (0,), "n1"), rank(1, (0,), "n2")]) == []


def test_one_rank_bound_to_one_core_learns_of_bind_to_none():
    (text,) = texts([rank(0, (0,), node_cores=32)])
    assert "Open MPI gives -n 1 one core: add --bind-to none" in text


def test_idle_cores_are_counted():
    (text,) = texts([rank(0, (0,), node_cores=8), rank(1, (1,), node_cores=8)])
    assert "2 ranks may use 2 of 8 cores" in text
    assert "PE=n" in text


def test_ranks_on_one_gpu_are_named():
    (text,) = texts([rank(0, (0,), gpu="a"), rank(1, (1,), gpu="a"), rank(2, (2,), gpu="b")])
    assert "ranks 0-1 share one GPU" in text


def test_a_foreign_launcher_is_essential():
    (advice,) = judge([rank(0)], launched=4)
    assert advice.essential
    assert "started 4 ranks, but MPI sees 1" in advice.text


def test_different_installations_are_named():
    ranks = [rank(0, installed=(("torch", "2.13"),)), rank(1, host="n2", installed=(("torch", "2.12"),))]
    (text,) = texts(ranks)
    assert "torch is 2.13 on n1, 2.12 on n2" in text


@pytest.mark.parametrize(
    ("variables", "launched"),
    [({}, 0), ({"OMPI_COMM_WORLD_SIZE": "4", "SLURM_STEP_NUM_TASKS": "2"}, 4), ({"PMI_SIZE": "3"}, 3), ({"SLURM_NTASKS": "8"}, 0)],
)
def test_what_the_launcher_says(monkeypatch, variables, launched):
    monkeypatch.setattr(doctor.os, "environ", variables)
    assert doctor.launched_ranks() == launched


@pytest.fixture
def no_mpi(monkeypatch):
    """MPI has not started, its library cannot be asked."""
    monkeypatch.setattr(doctor.mpi, "version", lambda: "some MPI")


def test_a_serial_hdf5_is_essential(monkeypatch, no_mpi):
    owners = {"store": SimpleNamespace(version=lambda: ("1.14.2, h5py 3.16.0", False))}
    monkeypatch.setattr(doctor, "_owner", lambda name: owners.get(name, "not asked"))
    found, advice = find_installed()
    assert found["HDF5"].startswith("SERIAL")
    assert any(each.essential and "serial HDF5" in each.text and "run/setup.sh" in each.text for each in advice)


def test_what_cannot_be_imported_is_named(monkeypatch, no_mpi):
    monkeypatch.setattr(doctor, "_owner", lambda name: f"no module for {name}")
    found, advice = find_installed()
    assert (found["GDAL"], found["HDF5"], found["torch"]) == ("absent", "absent", "absent")
    assert [each.essential for each in advice] == [True] * 3
    assert any("no GDAL" in each.text and "no module for raster" in each.text for each in advice)


def test_no_horovod_is_no_reason_to_stop(monkeypatch):
    monkeypatch.setattr(doctor, "_distribution", lambda name: "absent")
    version, advice = doctor.find_horovod()
    assert version == "absent"
    assert advice == [Advice(advice[0].text, essential=False)]


@pytest.mark.parametrize(
    ("numbers", "words"), [((), ""), ((3,), "3"), ((0, 1, 2, 3), "0-3"), ((0, 2, 3, 8), "0,2-3,8"), ((0, 1, 64, 65), "0-1,64-65")]
)
def test_numbers_are_spelt_as_ranges(numbers, words):
    assert spell(numbers) == words


def test_columns_are_aligned():
    head, *rows = table([rank(0), rank(10, host="a-longer-host")])
    assert {line.index("a processor") for line in rows} == {head.index("device")}
    assert "0-1" in rows[0]


@pytest.mark.mpi
@needs_mpirun
def test_every_rank_is_in_one_table():
    result = run(2, "doctor")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["rank", "0", "1"]
    assert ["1 OMPI_COMM_WORLD_LOCAL_RANK" in line for line in lines[:3]] == [False, False, True]
    assert any(line.startswith("HDF5      parallel") for line in lines)
    assert sum(line.startswith("MPI ") for line in lines) == 1


def test_without_a_launcher(hpcseg):
    code, text, _ = hpcseg("doctor")
    assert code == 0
    assert "no launcher" in text
