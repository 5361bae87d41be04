"""The command line: `balsadb serve`, `balsadb cluster`, `balsadb demo`.

Vocabulary
    *setting*        one option of a node, from a flag, `BALSADB_*`, a TOML file or its default
    *local cluster*  node processes on this machine, all in one folder (`./data`)
    *demo*           the main job: three real nodes, all films, a killed leader, and the proof

Map
    `settings`         the one table of settings and where their values come from
    `plan`             how many nodes on which ports, checked before anything is touched
    `local_cluster`    node processes: start, wait, kill, stop, reset
    `following`        who is a member now: whom to start, stop, or start at another place
    `first_start`      compiling the kernels once, however many nodes start
    `app`, `clusters`, `members`  the commands; `output`, how they show what they found
    `films`            the data set of the demo
    `demo`             its steps, in order; `failover` the killing, `report` the table

Invariants
    * Data goes to stdout, progress and errors to stderr. No colours without a terminal, or with
      `NO_COLOR`.
    * Exit codes: 0 ok, 1 error, 2 wrong use, 3 the cluster cannot serve now.
    * What is refused has changed nothing: `--reset` deletes only when the new cluster can start.
    * Starting what runs, or stopping what does not, is no error: every command may be repeated.
    * A process is signalled only if its command line shows that it is a node of that folder.
    * Whatever the demo starts, it ends, whichever way it leaves.

Costs: commands import what they need when they run; `balsadb serve` loads neither tables nor the
client.

What it does not do: start nodes on other machines. There, run `balsadb serve` under the system's
own supervisor.
"""


def main() -> None:
    """Run the command line."""
    from balsadb.cli.app import run

    run()
