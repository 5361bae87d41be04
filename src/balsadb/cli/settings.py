"""Where a node's settings come from: flags over `BALSADB_*` environment over a TOML file over
defaults, all from one table.

`TABLE` has a line for every field of `NodeSettings`; the flags of `balsadb serve`, the names of the
environment variables, the keys of the file and the checks are read off it, so that they cannot
drift apart.
"""

import inspect
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from balsadb.cluster.settings import NodeSettings
from balsadb.errors import InvalidInput

ENVIRONMENT_PREFIX = "BALSADB_"


class Setting(NamedTuple):
    """One line of the table: the field of `NodeSettings`, the flag, and what it means."""

    field: str
    flag: str
    help: str
    is_secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable: the flag in capitals, `BALSADB_PEER_PORT`."""
        return ENVIRONMENT_PREFIX + self.key.upper()

    @property
    def key(self) -> str:
        """The key in a TOML file: the flag with underscores, `peer_port`."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def kind(self) -> type[Any]:
        """`int`, `float`, `bool`, `str` or `dict` (members)."""
        default: object = DEFAULTS[self.field]
        return type(default)


DEFAULTS: dict[str, Any] = {
    field.name: field.default_factory()
    if field.default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT
    else field.default
    for field in msgspec.structs.fields(NodeSettings)
}

TABLE: tuple[Setting, ...] = (
    Setting("node", "--node", "This node's number, 1 or larger; never re-used for another disk."),
    Setting("data", "--data", "Data directory of this node."),
    Setting("host", "--host", "Address for clients; beyond loopback needs an API key."),
    Setting("port", "--port", "Port for clients."),
    Setting("peer_host", "--peer-host", "Address for the other nodes."),
    Setting("peer_port", "--peer-port", "Port for the other nodes."),
    Setting(
        "members",
        "--initial-members",
        "Peer addresses of the first members, `1=host:port,2=host:port`; counts only on an empty "
        "data directory and must be the same on all nodes. Empty: a cluster of one.",
    ),
    Setting(
        "peer_address",
        "--peer-address",
        "Where the other nodes reach this one, `host:port`; for a node that joins and listens on "
        "every address. Empty: the peer host and port.",
    ),
    Setting(
        "join",
        "--join",
        "For a node that comes later: peer addresses of one or more members, `host:port,host:port`."
        " They take it in as a learner; counts only on an empty data directory.",
    ),
    Setting("cluster_name", "--cluster-name", "Part of the cluster's identity."),
    Setting("cluster_secret", "--cluster-secret", "What nodes prove to one another.", True),
    Setting("api_key", "--api-key", "What clients must send; empty: none.", True),
    Setting("tick_ms", "--tick-ms", "Raft's clock, in milliseconds."),
    Setting("heartbeat_ticks", "--heartbeat-ticks", "Ticks between heartbeats."),
    Setting("election_ticks", "--election-ticks", "Least ticks without a leader to an election."),
    Setting("request_timeout_s", "--request-timeout-s", "Seconds a request may take by default."),
    Setting(
        "checkpoint_log_bytes",
        "--checkpoint-log-bytes",
        "Bytes of log after which a checkpoint is written; 100,000 entries are enough too.",
    ),
    Setting("log_tail_bytes", "--log-tail-bytes", "Bytes of log kept for followers that lag."),
    Setting("log_bytes_max", "--log-bytes-max", "Bytes of log at which writes are refused (429)."),
    Setting("wal_segment_bytes", "--wal-segment-bytes", "Bytes of one segment of the log."),
    Setting(
        "disk_low_bytes",
        "--disk-low-bytes",
        "Free bytes on the data directory's disk below which writes that add data are refused; "
        "0: neither this nor the next is watched.",
    ),
    Setting(
        "disk_full_bytes",
        "--disk-full-bytes",
        "Free bytes that checkpoints leave for the log.",
    ),
    Setting("link_threads", "--link-threads", "Threads that plan the graph, on the leader."),
    Setting("dialect_version", "--dialect-version", "The version that `GET /` tells clients."),
)
"""Every setting of a node, in the order of the help page."""

BY_KEY = {setting.key: setting for setting in TABLE}
BY_FIELD = {setting.field: setting for setting in TABLE}


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], file: str | None
) -> NodeSettings:
    """The settings of a node, checked.

    `flags` maps fields to what was given on the command line (None: not given); `file` is a TOML
    file's path. Raises `InvalidInput` naming the flag, variable or key that the user wrote, or the
    flag where a default breaks a rule. `members` and `join` exclude each other: the one that the
    command line names counts, whatever the environment or the file says of the other, and so on.
    """
    values: dict[str, Any] = {}
    sources = {setting.field: setting.flag for setting in TABLE}
    if file is not None:
        values.update(_from_file(file))
        sources.update({field: f"{file}: {BY_FIELD[field].key}" for field in values})
    told = {setting.field for setting in TABLE if setting.variable in environment}
    for setting in TABLE:
        text = environment.get(setting.variable)
        if text is not None:
            sources[setting.field] = setting.variable
            values[setting.field] = parse(setting, text, setting.variable)
    for field, value in flags.items():
        if value is not None:
            sources[field] = BY_FIELD[field].flag
            values[field] = parse(BY_FIELD[field], value, sources[field])
    for given in ({field for field in flags if flags[field] is not None}, told):
        if len(given & {"members", "join"}) == 1:
            values.pop("members" if "join" in given else "join", None)
            break
    settings = NodeSettings(**values)
    try:
        settings.check()
    except InvalidInput as error:
        rule = re.sub(r"`(\w+)`", lambda found: sources[found[1]], error.rule)
        raise InvalidInput(sources[error.field], rule) from error
    return settings


def parse(setting: Setting, value: object, source: str) -> Any:
    """`value` (a text, or what TOML decoded) as the setting's type; `source` names it in errors."""
    try:
        if setting.kind is dict:
            return _members(value)
        if setting.kind is not str:
            return msgspec.convert(value, setting.kind, strict=not isinstance(value, str))
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidInput(source, str(error)) from error
    if not isinstance(value, str):
        raise InvalidInput(source, "must be a text")
    return value


def _from_file(file: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput("--config", f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("--config", f"{file} is not TOML: {error}") from error
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in BY_KEY:
            known = ", ".join(sorted(BY_KEY))
            raise InvalidInput(f"{file}: {key}", f"is not a setting; there are {known}")
        setting = BY_KEY[key]
        values[setting.field] = parse(setting, value, f"{file}: {key}")
    return values


def _members(value: object) -> dict[int, str]:
    """Members from `1=host:port,2=host:port` or from a TOML table of the same."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        items = [(name.strip(), address.strip()) for name, _, address in pairs]
    else:
        items = list(msgspec.convert(value, dict[str, str]).items())
    members: dict[int, str] = {}
    for name, address in items:
        if not re.fullmatch(r"[1-9][0-9]{0,8}", name):
            raise ValueError(f"{name!r} is not a node's number; write 1=host:port,2=host:port")
        if not re.fullmatch(r".+:[0-9]{1,5}", address):
            raise ValueError(f"{address!r} is not host:port")
        if int(name) in members:
            raise ValueError(f"node {name} is listed twice")
        members[int(name)] = address
    return dict(sorted(members.items()))


def to_toml(settings: NodeSettings) -> str:
    """A file that `load` reads back to `settings`; defaults are left out."""
    lines: list[str] = []
    tables: list[str] = []
    for setting in TABLE:
        value = getattr(settings, setting.field)
        if value == DEFAULTS[setting.field]:
            continue
        if setting.kind is dict:
            tables.append(f"\n[{setting.key}]")
            tables += [f'{name} = "{address}"' for name, address in settings.members.items()]
        elif isinstance(value, str):
            # A JSON string is a TOML basic string.
            lines.append(f"{setting.key} = {msgspec.json.encode(value).decode()}")
        else:
            lines.append(f"{setting.key} = {str(value).lower()}")
    return "\n".join([*lines, *tables]) + "\n"


def help_text(setting: Setting) -> str:
    """The line of the help page: meaning, default, variable."""
    default = DEFAULTS[setting.field]
    shown = "" if default in ("", {}) or default is False else f" Default: {default}."
    return f"{setting.help}{shown} [{setting.variable}]"


def signature(option: Any) -> inspect.Signature:
    """The parameters of `balsadb serve`: one for each line of the table, and `--config`.

    `option` is `typer.Option`; it comes from the caller so that this module stays light.
    """
    config = option(None, "--config", help="TOML file with any of these settings.")
    parameters = [_parameter("config", str | None, config)]
    for setting in TABLE:
        kind = str if setting.kind is dict else setting.kind
        default = option(None, setting.flag, help=help_text(setting), show_default=False)
        parameters.append(_parameter(setting.field, kind | None, default))
    return inspect.Signature(parameters)


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)
