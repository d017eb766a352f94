"""How a checkpoint is written: whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import NAME, fit
from dense_network import same

from gpucnn.callbacks import Callback
from gpucnn.errors import CheckpointError
from gpucnn.training.checkpoint import CHECKPOINT
from gpucnn.training.tensor_file import TensorFile, write_atomically

pytestmark = pytest.mark.usefixtures("on_numpy")

ROOT = Path(__file__).resolve().parents[2]


def test_f9_killed_at_random_times_while_saving(tmp_path: Path) -> None:
    """Fifty times: the newest complete checkpoint is always there, and whole."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    script = Path(__file__).with_name("save_until_killed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / NAME), "50"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    written, within = map(int, done.stdout.split())
    assert written >= 50 and within >= 1, "some were killed in the middle of a write"


def test_f9_files_that_a_killed_process_left_are_removed_in_the_end(tmp_path: Path) -> None:
    old, recent, foreign = (tmp_path / n for n in (f".{NAME}.abc", f".{NAME}.def", ".other.abc"))
    for path in (old, recent, foreign):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(foreign, (time.time() - 7200,) * 2)
    write_atomically(tmp_path / NAME, b"whole")
    assert sorted(os.listdir(tmp_path)) == sorted([NAME, recent.name, foreign.name])


class Limit(Callback):
    """Lets no file grow beyond some bytes from an epoch on: what a full disk looks like."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_f10_a_full_disk_ends_the_fit_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    expected = fit(tmp_path / "twin")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError, match=r"^cannot write .*checkpoint\.safetensors: File too large$"):
            fit(tmp_path / NAME, None, Limit())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert CHECKPOINT.read(tmp_path / NAME)[1]["epoch"] == 1 and sorted(os.listdir(tmp_path)) == [NAME, "twin"]
    assert same(fit(tmp_path / NAME).state_dict(), expected.state_dict())


class Removal(Callback):
    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            self._act()


def test_f10_a_folder_that_is_deleted_or_a_file_that_becomes_a_folder_ends_the_fit(tmp_path: Path) -> None:
    path = tmp_path / "run" / NAME
    path.parent.mkdir()

    def delete() -> None:
        path.unlink()
        path.parent.rmdir()

    with pytest.raises(CheckpointError, match="^cannot write .*: No such file or directory$"):
        fit(path, None, Removal(delete))
    path.parent.mkdir()
    with pytest.raises(CheckpointError, match="^cannot write .*: Is a directory$"):
        fit(path, None, Removal(lambda: (path.unlink(), path.mkdir())))
    with pytest.raises(CheckpointError, match="^cannot read a checkpoint from .*"):
        fit(path)


def test_f11_arrays_of_any_layout_and_size_come_back(tmp_path: Path) -> None:
    kind = TensorFile("a test", 1, "arrays")
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {
        "transposed": base.T, "strided": base[::2, ::-3], "fortran": np.asfortranarray(base), "empty": base[:0],
        "scalar": np.array(2.5), "broadcast": np.broadcast_to(np.float32(1), (2, 3)), "offset": base[1:],
        "int64": np.arange(3), "bytes": base.astype(np.uint8), "half": base.astype(np.float16),
        "foreign": base.astype(">f4"),
    }  # fmt: skip
    for _ in range(2):  # the second time over itself
        kind.write(tmp_path / NAME, arrays, {})
        found, _ = kind.read(tmp_path / NAME)
        assert found.keys() == arrays.keys()
        for name, value in arrays.items():
            assert found[name].shape == value.shape and found[name].dtype == value.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        arrays = {**found, "foreign": arrays["foreign"]}


def test_f13_the_umask_is_respected(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        old = os.umask(mask)
        try:
            fit(tmp_path / f"{mask}")
        finally:
            os.umask(old)
        assert (tmp_path / f"{mask}").stat().st_mode & 0o777 == mode
