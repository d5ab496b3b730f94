"""Make the pictures of the README from a finished `bigs demo`: python docs/pictures.py DEMO."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
COMMANDS = (
    "bigs runs show demo/pretrained",
    'bigs predict "Return a [MASK] of the files." --model demo/pretrained --top 3',
    "bigs eval --model demo/word-order",
)
WIDTH = 100


def picture_of_terminal(folder: Path, target: Path) -> None:
    """Run the commands in `folder`, which contains `demo`, and write what they print as an SVG picture."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    for command in COMMANDS:
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
        words = [sys.executable, "-P", "-m", "bigs_cli", *shlex.split(command)[1:]]
        done = subprocess.run(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        console.print(Text.from_ansi(done.stdout))
    console.save_svg(str(target), title="bigs", theme=MONOKAI)


def main(demo: Path) -> None:
    """Write docs/demo.png, docs/kernels.png and docs/terminal.svg."""
    run = demo / "pretrained"
    plot = [sys.executable, "-P", "-m", "bigs_cli", "runs", "plot"]
    for words, name in (([run], "demo.png"), (["--kernels", run], "kernels.png")):
        subprocess.run([*plot, *words, "--output", HERE / name], check=True)
        Image.open(HERE / name).convert("RGB").quantize(64).save(HERE / name, optimize=True)  # a third of the size
    picture_of_terminal(demo.parent, HERE / "terminal.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
