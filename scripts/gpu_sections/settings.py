"""What a section is told about the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from gpucnn.backends.kernel_backend import KernelBackend

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """The choices of the command line, as one section's process sees them.

    Args:
        backend: "cuda", or "emulated" to try the script itself, at tiny sizes.
        out: folder of the report.
        data_dir: folder of the MNIST files, or None.
        tests: what the kernels section gives to pytest.
        commit: of the checkout, as the user said it, or None.
        test_seconds: a single kernel test that takes longer is stopped.
        seconds: of the section, or None without a limit.
    """

    backend: str
    out: str
    data_dir: str | None = None
    tests: tuple[str, ...] = ("tests",)
    commit: str | None = None
    test_seconds: float = 90.0
    seconds: float | None = None

    @property
    def tiny(self) -> bool:
        """Whether sizes are cut down, because a CPU pretends to be a GPU."""
        return self.backend != "cuda"

    def write(self, path: Path) -> None:
        """Store as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: str) -> Settings:
        """Load what `write` stored."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**{**values, "tests": tuple(values["tests"])})

    def activate(self) -> KernelBackend:
        """Put the backend in use for the whole process and return it; DeviceError when it does not work."""
        from gpucnn import backends
        from gpucnn.backends.kernel_backend import KernelBackend

        backends.set_backend(self.backend)
        chosen = backends.get_backend()
        if not isinstance(chosen, KernelBackend):
            raise TypeError(f"{self.backend} launches no kernels: {type(chosen).__name__}")
        return chosen

    def digits(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `count` drawn digits, float32 (count, 28, 28, 1) in 0..1, and their int32 labels."""
        import numpy as np

        from gpucnn.datasets import digits

        (x, y), _ = digits.load_data(train=count, test=0)
        return (x[..., None] / np.float32(255)).astype(np.float32), y.astype(np.int32)
