"""The README's table of speed comes from measured files, and says what nobody measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import benchmark_readme
import click
import pytest

from gpucnn.benchmarks import SECTIONS, goals
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.runner import Run
from gpucnn.benchmarks.torch_training import WAYS

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {
    "tiny": False, "command": "gpucnn bench cpu", "commit": "0123456789abcdef", "processor": "a processor",
    "python": "3.11", "numpy": "2.4", "torch": "2.14", "pairs": 30, "ways": [way.name for way in WAYS.values()],
}  # fmt: skip
OF_COPY = "2x2, float32, of a large copy, least"
GPU = {**ABOUT, "device": "a GPU", "driver": "600.1"}


def run(about: dict, **summaries: dict) -> dict:
    return {"about": about, "sections": {name: {"summary": summary} for name, summary in summaries.items()}}


def test_every_goal_is_a_figure_that_its_section_gives():
    results = Run(list(SECTIONS), Conditions()).results
    for goal in goals.GOALS:
        assert goal.key in results[goal.section]["summary"], goal


def test_the_table_says_what_was_measured_and_what_was_not():
    found = goals.table(
        [
            run(ABOUT, cpu={"forward": 1.234, "LeNet-5 step": None}),
            run(
                GPU,
                cpu={"forward": 9.0},
                mnist={"seconds": 0.0123, "accuracy": 0.99012},
                pool={OF_COPY: 0.93},
            ),
        ]
    )
    lines = found.splitlines()
    assert "| CPU: convolutions, forward | 1.23 |  |" in lines
    assert "| CPU: LeNet-5 step, batch 128 | not measured | at least 0.7 |" in lines
    assert "| MNIST to 99 %, training | 12.3 ms | at most 15 ms |" in lines
    assert "| its bandwidth / a large copy's | 93 % | at least 90 % |" in lines
    assert "| MNIST, its mean test accuracy | 99.01 % | at least 99.0 % |" in lines
    assert found.count("not measured") == len(goals.GOALS) - 4
    assert "`gpucnn bench cpu` at 0123456789ab on a processor; Python 3.11" in lines[-2]
    assert "on a GPU, driver 600.1; Python 3.11" in lines[-1]


def test_a_trial_at_tiny_sizes_is_refused():
    with pytest.raises(ValueError, match="a run at tiny sizes measures nothing"):
        goals.table([run({**ABOUT, "tiny": True})])


def test_a_run_of_few_pairs_is_refused():
    with pytest.raises(ValueError, match="a run of 1 pairs has no place in the table: it takes at least 30"):
        goals.table([run({**ABOUT, "pairs": 1})])


def test_no_time_counts_below_the_accuracy():
    lines = goals.table([run(GPU, mnist={"seconds": 0.01, "accuracy": 0.98966})]).splitlines()
    assert "| MNIST to 99 %, training | does not count: accuracy 98.97 % | at most 15 ms |" in lines
    assert "| MNIST, its mean test accuracy | 98.97 % | at least 99.0 % |" in lines


def test_what_pytorch_did_not_try_stands_beside_the_figure():
    some = {**GPU, "ways": ["eager", "CUDA graph", "torch.compile"]}
    lines = goals.table([run(some, block={"first block": 4.5}, pool={"2x2, float32": 1.8})]).splitlines()
    left = "not tried: torch.compile in a CUDA graph"
    assert f"| first block, forward and backward | 4.50 ({left}) | at least 4 |" in lines
    assert "| max-pooling, both ways, float32 | 1.80 | at least 1.7 |" in lines


def test_the_marks_must_be_there():
    with pytest.raises(click.ClickException, match="the README needs the lines <!-- benchmark --> and"):
        benchmark_readme.replaced("no marks", [])


def test_the_readme_shows_what_the_measured_files_say():
    files = sorted((ROOT / "scripts" / "measured").glob("*.json"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert files and benchmark_readme.replaced(text, files) == text


def test_the_script_replaces_the_table(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{benchmark_readme.BEGIN}old\n{benchmark_readme.END}after\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps({"about": ABOUT, "sections": {}}), encoding="utf-8")
    benchmark_readme.main([str(tmp_path / "a.json"), "--readme", str(path)], standalone_mode=False)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert len(re.findall(r"^\|.*not measured", text, re.M)) == len(goals.GOALS)
