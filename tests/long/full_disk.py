"""Fill the disk during every writing command: it reports this, and succeeds when it is repeated with enough space.

The disk is a small tmpfs with only a part of the required space: none, a few KB, or a fraction. A command that fails
must report that the disk is full and exit with 1, without a traceback and without a finished product. Then the tmpfs
is enlarged and the command is repeated, with --resume if there is something to resume: its product must have the same
bytes as with enough space, and there must be no other files. This requires permission to mount.

Run: python -m tests.long.full_disk [--only NAME]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.long.verbs import Verb, differences, prepare

PARTS = (0.0, 0.02, 0.25, 0.5, 0.75, 0.95)


def main() -> None:
    """Print one line per command; exit with 1 if one has problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder, "disk")
        disk.mkdir()
        if _mount(disk, 64 << 20):
            sys.exit("Mounting a tmpfs failed; it requires root. Nothing was tested.")
        _unmount(disk)
        for number, verb in enumerate(prepare(Path(folder))):
            if args.only in verb.name:
                problems, what = _fill(verb, Path(folder, str(number)), disk)
                failed = failed or bool(problems)
                print(f"{verb.name}: {what}; {'; '.join(problems) or 'the same in the end'}", flush=True)
    sys.exit(failed)


def _fill(verb: Verb, steady: Path, disk: Path) -> tuple[list[str], str]:
    """Return the problems, and a description of the attempts."""
    steady.mkdir()
    _mount(disk, 256 << 20)
    before = _used(disk)
    err = verb.start(disk).communicate(timeout=300)[1]
    if not verb.finished(disk):
        _unmount(disk)
        return [f"it fails with enough space: {err[-300:]}"], "nothing"
    wanted, required = verb.made(disk), max(_used(disk) - before, 8192)
    _unmount(disk)
    problems, outcomes = [], []
    for part in PARTS:
        room = max(4096, int(part * required) // 4096 * 4096)
        _mount(disk, room)
        if not part:
            (disk / "full").write_bytes(b"0" * 4096)
        running = verb.start(disk)
        err = running.communicate(timeout=300)[1]
        last = err.strip().splitlines()[-1] if err.strip() else ""
        if running.returncode:
            outcomes.append(f"{room >> 10} KB: {running.returncode}")
            if running.returncode != 1 or not _reports_full_disk(last) or "Traceback" in err:
                problems.append(f"with {room >> 10} KB: code {running.returncode}, {last[:300]}")
            if verb.finished(disk):
                problems.append(f"with {room >> 10} KB: the product counts as finished")
        subprocess.run(["mount", "-o", f"remount,size={256 << 20}", str(disk)], check=True)
        (disk / "full").unlink(missing_ok=True)
        running = verb.start(disk) if running.returncode else running
        err = running.communicate(timeout=300)[1] if running.poll() is None else err
        if running.returncode:
            problems.append(f"after {room >> 10} KB: code {running.returncode}, {err.strip()[-300:]}")
        elif wrong := differences(wanted, verb.made(disk)):
            problems.append(f"after {room >> 10} KB differs: {', '.join(wrong[:5])}")
        _unmount(disk)
    return problems, f"requires {required >> 10} KB; {', '.join(outcomes) or 'never full'}"


def _reports_full_disk(line: str) -> bool:
    return line.startswith("bigs: ") and ("is full" in line or "No space left" in line)


def _used(disk: Path) -> int:
    return shutil.disk_usage(disk).used


def _mount(disk: Path, size: int) -> int:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def _unmount(disk: Path) -> None:
    subprocess.run(["umount", str(disk)], check=True)


if __name__ == "__main__":
    main()
