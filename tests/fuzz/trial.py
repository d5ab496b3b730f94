"""Running a parser on corrupt files, and a report of the faults."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from bigs_cli.core.errors import BigsError
from tests.fuzz.cases import corrupt_files
from tests.fuzz.guard import watched
from tests.fuzz.targets.target import Target


@dataclass
class Report:
    """The numbers of cases that were tried and read, and one case for each place in the code with a fault."""

    tried: int = 0
    read: int = 0
    faults: dict[str, bytes] = field(default_factory=dict)


class Trial:
    """A parser with its own folder."""

    def __init__(self, target: Target, folder: Path) -> None:
        """Read the valid contents first, so that what libraries load is not attributed to a case."""
        self.target = target
        self.path, self.seeds = target.prepare(folder)
        self.folder = folder
        self.report = Report()
        for content in self.seeds:
            self._read(content)

    def attempt(self, count: int, number: int | None = None) -> Report:
        """Try about `count` cases: the same ones each time, or random ones with the seed `number`."""

        @settings(
            max_examples=count,
            derandomize=number is None,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # Shrinking one fault could hide another.
            suppress_health_check=list(HealthCheck),
        )
        @given(corrupt_files(self.seeds, self.target.tokens))
        def check(case: bytes) -> None:
            self.run(case)

        (check if number is None else seed(number)(check))()
        return self.report

    def run(self, case: bytes) -> None:
        """Try one case: it must be read, or refused with a message; anything else is a fault."""
        self.report.tried += 1
        try:
            with watched(self.folder):
                try:
                    self._read(case)
                    self.report.read += 1
                except BigsError as error:
                    if not str(error).strip():
                        raise AssertionError("an empty message") from error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if "bigs_cli" in frame.filename] or frames
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            self.report.faults.setdefault(f"{type(error).__name__} at {where}: {str(error)[:200]}", case)

    def _read(self, case: bytes) -> None:
        self.path.write_bytes(self.target.wrap(case))
        self.target.read(self.path)
