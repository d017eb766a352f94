"""What the disassembler's listing says of kernels whose code is known."""

from __future__ import annotations

import pytest

from gpucnn.devices import nvrtc, sass
from gpucnn.devices.nvrtc import CompiledModule
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import KernelSource, entries
from gpucnn.limits import limits_of
from gpucnn.plans import candidates
from gpucnn.specs import ArraySpec

LISTING = """
	.target	sm_90
//--------------------- .text.outer --------------------------
	.section	.text.outer,"ax",@progbits
outer:
.text.outer:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_2:
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/                   FFMA R25, R20.reuse, R22.reuse, R17 ;
.L_x_1:
        /*0030*/                   LDS.64 R22, [R60+0x1200] ;
        /*0040*/                   FFMA R25, R20.reuse, R22.reuse, R17 ;
        /*0050*/                   FFMA R26, R20, R23.reuse, R16 ;
        /*0060*/               @P1 BRA `(.L_x_1) ;
        /*0070*/                   HFMA2.MMA R2, -RZ, RZ, 0, 0 ;
        /*0080*/                   LDGSTS.E.BYPASS.LTC128B.128 [R9], desc[UR4][R14.64] ;
        /*0090*/               @P0 BRA `(.L_x_2) ;
        /*00a0*/               @P0 BRA `(.L_x_3) ;
        /*00b0*/                   STG.E.U16 desc[UR4][R2.64], R4 ;
.L_x_3:
        /*00c0*/                   EXIT ;
.L_x_4:
        /*00d0*/                   BRA `(.L_x_4);
        /*00e0*/                   NOP;
//--------------------- .text.second --------------------------
	.section	.text.second,"ax",@progbits
.text.second:
        /*0000*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0010*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0020*/                   STL [R1], R4 ;
        /*0030*/                   EXIT ;
"""

KERNELS = """
extern "C" __global__ void copy(float4* __restrict__ y, const float4* __restrict__ x) {
  y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void halves(short* __restrict__ y, const short* __restrict__ x) {
  y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void sum(float* __restrict__ y, const float* __restrict__ x, int n) {
  float total = 0.0f;
#pragma unroll 1
  for (int i = 0; i < n; ++i) total = fmaf(x[i], x[i], total);
  y[threadIdx.x] = total;
}
extern "C" __global__ void indexed(float* __restrict__ y, const float* __restrict__ x, int n) {
  float values[32];
  for (int i = 0; i < 32; ++i) values[i] = x[i * n];
  for (int i = 0; i < n; ++i) values[n & 31] += values[(i * 7) & 31];
  y[threadIdx.x] = values[n & 15];
}
"""


def test_a_listing_is_read() -> None:
    found = dict(sass._entries(LISTING))
    assert list(found) == ["outer", "second"]
    assert [i.address for i in found["outer"]] == list(range(0, 0xE0, 0x10)), "padding is left out"
    assert [i.target for i in found["outer"] if i.name == "BRA"] == [0x30, 0x10, 0xC0, 0xD0]
    whole = sass.mix_of(found["outer"])
    assert whole.kinds == {
        "other": 2, "global load": 1, "multiply-add": 3, "shared load": 1, "branch": 5, "async copy": 1,
        "global store": 1,
    }  # fmt: skip
    assert whole.widths == {16: 2, 2: 1}
    assert whole.vector_share == pytest.approx(2 / 3)
    assert whole.product == "FFMA"


def test_the_main_loop_is_the_one_with_the_most_products_of_its_own() -> None:
    found = dict(sass._entries(LISTING))
    loop = sass.main_loop(found["outer"])
    assert [i.address for i in loop] == [0x30, 0x40, 0x50, 0x60]
    assert sass.mix_of(loop).product_share == 0.5
    assert sass.mix_of(loop).vector_share is None
    assert sass.main_loop(found["second"]) == found["second"], "without a loop it is the whole code"
    second = sass.mix_of(found["second"])
    assert (second.product, second.kinds["local memory"]) == ("HMMA.16816.F32.BF16", 1)


def test_no_products() -> None:
    mix = sass.mix_of(())
    assert (mix.total, mix.product, mix.product_share, mix.vector_share) == (0, None, 0.0, None)


@pytest.fixture(scope="module")
def compiled(disassembler: None) -> CompiledModule:
    return nvrtc.compile_module(KernelSource("sass.cu", KERNELS, (), entries(KERNELS)), "sm_90", cached=False)


def test_machine_code_of_known_kernels(compiled: CompiledModule) -> None:
    found = sass.disassemble(compiled.cubin)
    assert set(found) == {"copy", "halves", "sum", "indexed"}
    assert sass.mix_of(found["copy"]).widths == {16: 2}
    assert sass.mix_of(found["halves"]).widths == {2: 2}
    loop = sass.mix_of(sass.main_loop(found["sum"]))
    assert loop.products == {"FFMA": 1}
    assert loop.kinds["global load"] == 1
    assert loop.total < len(found["sum"])
    assert sass.mix_of(found["indexed"]).kinds["local memory"] > 0
    assert not any(sass.mix_of(found[name]).kinds["local memory"] for name in ("copy", "halves", "sum"))


def test_a_launch_is_compiled_and_its_entry_read(disassembler: None) -> None:
    (launch,) = candidates("fill_forward", ArraySpec(64, "float32"), limits_of(90), 16)[0].launches
    report, code = sass.entry_of(launch, "sm_90")
    assert report.entry == launch.entry == "fill_forward_direct"
    assert sass.mix_of(code).widths.keys() == {16, 4}, "vectors, and the elements that fill none"


def test_what_cannot_be_read_is_an_error(compiled: CompiledModule) -> None:
    with pytest.raises(DeviceError, match="nvdisasm exits with"):
        sass.disassemble(b"not a cubin")


def test_without_a_disassembler_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(sass.disassembler.cache_clear)
    sass.disassembler.cache_clear()
    monkeypatch.setattr(nvrtc, "toolkit_folders", lambda: iter(()))
    monkeypatch.setenv("PATH", "")
    assert "pip install nvidia-cuda-nvdisasm" in str(sass.available())
