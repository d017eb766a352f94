"""What fits on a multiprocessor, as NVIDIA's occupancy calculator has it."""

from __future__ import annotations

import pytest

from gpucnn.limits import CAPABILITIES, REGISTERS, limits_of, registers_of_block, resident_blocks, resident_warps


def test_registers_of_block() -> None:
    assert registers_of_block(64, 1024) == REGISTERS
    assert registers_of_block(65, 1024) > REGISTERS
    assert registers_of_block(1, 33) == 2 * 256
    assert 255 * 256 < REGISTERS < registers_of_block(255, 288)


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared_bytes", "blocks"),
    [
        (90, 128, 128, 0, 4),
        (90, 256, 32, 0, 8),  # warps
        (90, 32, 16, 0, 32),  # blocks
        (90, 1024, 32, 0, 2),
        (90, 128, 32, 64 * 1024, 3),  # 228 KiB, 1 KiB of each block the system's
        (90, 128, 32, 227 * 1024, 1),
        (90, 128, 32, 228 * 1024, 0),
        (90, 96, 80, 0, 8),  # 6 warps of each of 4 schedulers
        (90, 1024, 65, 0, 0),
        (90, 33, 32, 0, 32),  # two warps
        (86, 256, 32, 0, 6),
        (89, 32, 16, 0, 24),
        (75, 256, 32, 0, 4),
        (75, 64, 32, 64 * 1024, 1),
        (75, 64, 32, 0, 16),
    ],
)
def test_resident_blocks(capability: int, threads: int, registers: int, shared_bytes: int, blocks: int) -> None:
    assert resident_blocks(capability, threads=threads, registers=registers, shared_bytes=shared_bytes) == blocks


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_largest_block_fits(capability: int) -> None:
    shared = limits_of(capability).shared_bytes
    assert resident_blocks(capability, threads=32, registers=32, shared_bytes=shared) >= 1
    assert resident_warps(capability) >= 32


def test_an_unknown_capability() -> None:
    with pytest.raises(ValueError, match=r"unknown compute capability 70; known: 75, 80"):
        limits_of(70)
