"""A trial notices jobs that do not end."""

from __future__ import annotations

import subprocess
import time

import pytest
from mpi.launch import Job

from faults import trial
from faults.trial import close


def start(script: str) -> Job:
    words = ["bash", "-c", script]
    process = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    return Job(process, time.monotonic())


def test_a_job_that_has_ended_tells_its_code_and_what_it_said():
    job = start("echo out; echo err >&2; exit 75")
    job.process.wait(10)
    code, after, said = close(job, time.monotonic() - 3)
    assert code == 75
    assert 3 <= after < 4
    assert said == "out\n\nerr\n"


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & exit 0", "sleep 60 >/dev/null 2>&1 & exit 0"])
def test_a_job_of_which_anything_goes_on_has_hung_and_is_ended(script, monkeypatch):
    monkeypatch.setattr(trial, "LINGER_SECONDS", 0.2)
    job = start(script)
    if "exit" in script:
        job.process.wait(10)
    assert close(job, time.monotonic())[0] is None
    assert not job.members()
