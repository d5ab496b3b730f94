"""Up to 200 corrupt files for every parser; `tests/long/fuzz.py` tries any number."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS
from tests.fuzz.targets.target import Target
from tests.fuzz.trial import Trial

CASES = 100
OF_A_RUN = 50  # each case reads several files in several ways


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_corrupt_file_is_read_or_refused_with_a_message(
    target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cases = OF_A_RUN if target.name.startswith("run ") else CASES
    report = Trial(target, tmp_path_factory.mktemp("fuzz")).attempt(cases)
    assert not report.faults
    assert 0 <= report.read < report.tried
