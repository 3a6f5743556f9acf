"""``python -m polyvec``."""

from polyvec.cli.main import main

main()
