"""`python -m bigs_cli` is `bigs`."""

from bigs_cli.cli import main

main()
