"""The commands, as typer sees them; each hands over to a module of its own."""

import os
import sys
from typing import Annotated

import typer

from balsadb.cli import first_start
from balsadb.cli import settings as node_settings
from balsadb.cli.local_cluster import exit_code
from balsadb.cli.members import clusters as cluster_app
from balsadb.cli.rejoin import app as node_app
from balsadb.errors import BalsaError

app = typer.Typer(
    name="balsadb",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cluster_app, name="cluster")
app.add_typer(node_app, name="node")


def _show_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def main(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """A vector database whose replicas are the same, to the byte."""


def serve(config: str | None, **flags: object) -> None:
    """Run one node until it is told to stop.

    A flag wins over its environment variable, which wins over the file, which wins over the
    default.
    """
    settings = node_settings.load(flags, os.environ, config)
    first_start.compile_once()
    from balsadb.server.run import run as run_node

    raise typer.Exit(run_node(settings))


_SERVE = node_settings.signature(typer.Option)
vars(serve)["__signature__"] = _SERVE
serve.__annotations__ = {
    name: parameter.annotation for name, parameter in _SERVE.parameters.items()
}
app.command()(serve)


@app.command()
def demo(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the nodes' data and logs.")] = False,
    load: Annotated[
        str | None,
        typer.Option("--load", help="Only load the films into the running cluster at this URL."),
    ] = None,
) -> None:
    """Three nodes store 36,273 films, find similar ones, and survive losing the leader."""
    from balsadb.cli import demo as main_job

    if load is not None:
        main_job.load_into(load)
        return
    raise typer.Exit(main_job.run(as_json=as_json, keep=keep))


@app.command()
def version() -> None:
    """Print the version."""
    from balsadb import __version__

    print(__version__)


def run() -> None:
    """Run the command line; errors of the tree become one line and an exit code."""
    try:
        app()
    except BalsaError as error:
        print(f"balsadb: {error.message}", file=sys.stderr)
        sys.exit(exit_code(error))
