"""The command line: `balsadb serve`, `balsadb cluster`, `balsadb demo`."""


def main() -> None:
    """Run the command line."""
