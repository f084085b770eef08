"""What can go wrong. A message says what was given, what was wanted and what to do; the class says how the job ends."""


class HpcsegError(Exception):
    """Root of all errors that hpcseg raises on purpose; `exit_code` is what the process returns."""

    exit_code = 1


class UsageError(HpcsegError):
    """A wrong option, path, model or configuration: nothing was started."""

    exit_code = 2


class SceneError(HpcsegError):
    """A scene that cannot be opened or does not fit: it is listed, the others run."""

    exit_code = 3


class ReadError(SceneError):
    """A block of a scene that cannot be read: its tile is marked failed, the run goes on."""


class StoreError(HpcsegError):
    """A prediction file that cannot be written, or that is not what it should be."""


class StoppedError(HpcsegError):
    """A signal asked the run to stop: what is done is kept, the same command resumes."""

    exit_code = 75
