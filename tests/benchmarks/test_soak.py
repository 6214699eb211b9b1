"""Workers keep within their memory on a file larger than it; `bench_memory` says by how much."""

from pathlib import Path

import pytest

from tests.benchmarks.bench_memory import CASES, LIMIT, Case, scan_and_rewrite


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_worker_restarted(case: Case, tmp_path: Path) -> None:
    made = case.make(tmp_path / "made.h5", 2 * LIMIT)
    n_restarted, peak = scan_and_rewrite(made, tmp_path)
    assert n_restarted == 0
    assert peak < LIMIT
