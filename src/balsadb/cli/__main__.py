"""`python -m balsadb.cli` is `balsadb`."""

from balsadb.cli import main

main()
