"""The commands of a migration, at either end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import capabilities, errors, parameters, uris
from .arguments import LATER, OLD, Argument
from .contract import QmpMessage, Version
from .errors import Refusal
from .handlers import Arguments, Command, fixed, whole
from .values import as_list, as_object

if TYPE_CHECKING:
    from .monitor import Client
    from .process import Qemu

_STATUSES = (
    "none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "postcopy-paused", "postcopy-recover",
    "completed", "failed", "colo", "pre-switchover", "device", "wait-unplug",
    "postcopy-recover-setup", "failing", "postcopy-device",
)  # fmt: skip
_MODES = ("page-sampling", "dirty-ring", "dirty-bitmap")
_UNITS = ("second", "millisecond")
_YANKED = (Argument("type", "enum", values=("block-node", "chardev", "migration")),)


def _migrate(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    uri = _uri(arguments, "migrate", qemu.version)
    qemu.outgoing.start(uri, _target(client, uri), resume=bool(arguments.get("resume")))
    return {}


def _target(client: Client, uri: str) -> str | None:
    """Where a uri leads: for ``fd:`` the address behind the descriptor, which is used up; ``None``: there is none."""
    return client.descriptors.pop(uri.removeprefix("fd:"), None) if uri.startswith("fd:") else uri


def _uri(arguments: Arguments, command: str, version: Version) -> str:
    if "uri" in arguments and "channels" in arguments:
        raise Refusal("need either 'uri' or 'channels' argument, but not both")
    if "channels" in arguments:
        return uris.from_channels(arguments["channels"])
    if "uri" not in arguments:
        raise Refusal("need either 'uri' or 'channels' argument")
    return str(arguments["uri"])


def _migrate_incoming(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    uri = _uri(arguments, "migrate-incoming", qemu.version)
    qemu.incoming.listen(uri, _target(client, uri), exit_on_error=bool(arguments.get("exit-on-error", True)))
    return {}


def _migrate_cancel(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.outgoing.cancel()
    return {}


def _migrate_continue(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.outgoing.go_on(str(arguments["state"]))
    return {}


def _migrate_start_postcopy(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.outgoing.start_postcopy()
    return {}


def _migrate_pause(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    if not qemu.outgoing.pause() and not qemu.incoming.pause():
        state = "postcopy-active" if qemu.version is Version.V7_2 else "postcopy-active or postcopy-recover"
        raise Refusal(f"migrate-pause is currently only supported during {state} state")
    return {}


def _migrate_recover(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.incoming.recover(str(arguments["uri"]))
    return {}


def _set_capabilities(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    changes = capabilities.wanted(arguments["capabilities"], qemu.version)
    if qemu.outgoing.running:
        raise errors.in_progress()
    found = qemu.settings.parameters
    around = capabilities.Surroundings(
        version=qemu.version,
        kvm_dirty_ring=qemu.machine.accelerator == "kvm" and qemu.machine.dirty_ring,
        plain_stream=not found["tls-creds"] and found["multifd-compression"] == "none",
        incoming=qemu.run_state == "inmigrate",
        memory_on_disk=qemu.machine.memory_on_disk,
    )
    after = capabilities.combine(qemu.settings.capabilities, changes, around)
    qemu.settings.capabilities.update(after)
    return {}


def _query_capabilities(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    states = qemu.settings.capabilities
    return [{"state": states[name], "capability": name} for name in capabilities.names(qemu.version)]


def _set_parameters(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.settings.parameters.update(parameters.changed(qemu.settings.parameters, arguments, qemu.version))
    qemu.outgoing.settings_changed()
    return {}


def _query_parameters(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return dict(qemu.settings.parameters)


def _query_migrate(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    answer = {**qemu.incoming.describe(), **qemu.outgoing.describe()}
    if blockers := qemu.blockers:
        answer["blocked-reasons"] = list(blockers)
    return answer


def _calc_dirty_rate(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    qemu.dirty_rate.measure(arguments)
    return {}


def _query_dirty_rate(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return qemu.dirty_rate.describe(str(arguments.get("calc-time-unit", "second")))


def _set_dirty_limit(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    if not qemu.machine.dirty_ring:
        # The quote at the end is QEMU's.
        raise Refusal("dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'")
    return {}


def _yank(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    instances = [as_object(each) for each in as_list(arguments["instances"]) or []]
    kinds = [each.get("type") for each in instances if each is not None]
    engaged = qemu.outgoing.engaged or qemu.incoming.engaged
    if any(kind == "block-node" or (kind == "migration" and not engaged) for kind in kinds):
        raise Refusal("Instance not found", errors.NO_DEVICE)
    if "migration" in kinds:
        qemu.outgoing.yank()
        qemu.incoming.yank()
    return {}


def _query_yank(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    found: list[QmpMessage] = [{"type": "chardev", "id": label} for label in qemu.machine.sockets]
    if qemu.outgoing.engaged or qemu.incoming.engaged:
        found.append({"type": "migration"})
    return found


def _client_migrate_info(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    if arguments["protocol"] != "spice":
        raise Refusal("Parameter 'protocol' expects 'spice'")
    return {}


def _getfd(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    leads_to = client.take_descriptor()
    if leads_to is None:
        raise Refusal("No file descriptor supplied via SCM_RIGHTS")
    name = str(arguments["fdname"])
    if name[:1].isdigit():
        raise Refusal("Parameter 'fdname' expects a name not starting with a digit")
    client.descriptors[name] = leads_to
    return {}


def _closefd(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    name = str(arguments["fdname"])
    if client.descriptors.pop(name, None) is None:
        raise Refusal(f"File descriptor named '{name}' not found")
    return {}


def _announce(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    for name in ("initial", "max", "rounds", "step"):
        whole(arguments[name])
    return {}


_OPTIONAL_CHANNELS = Argument("channels", "array", required=False, versions=LATER)
_BY_VERSION = (Version.V7_2, Version.V10_0)

_SET_CAPABILITIES = {
    version: Argument(
        "capabilities",
        "array",
        versions=(version,),
        members=(Argument("capability", "enum", values=capabilities.names(version)), Argument("state", "boolean")),
    )
    for version in Version
}

COMMANDS: tuple[Command, ...] = (
    Command(
        "migrate",
        _migrate,
        (
            Argument("uri", versions=OLD),
            Argument("uri", required=False, versions=LATER),
            _OPTIONAL_CHANNELS,
            Argument("blk", "boolean", required=False, versions=OLD),
            Argument("inc", "boolean", required=False, versions=OLD),
            Argument("detach", "boolean", required=False, versions=_BY_VERSION),
            Argument("resume", "boolean", required=False),
        ),
    ),
    Command(
        "migrate-incoming",
        _migrate_incoming,
        (
            Argument("uri", versions=OLD),
            Argument("uri", required=False, versions=LATER),
            _OPTIONAL_CHANNELS,
            Argument("exit-on-error", "boolean", required=False, versions=LATER),
        ),
    ),
    Command("migrate_cancel", _migrate_cancel),
    Command("migrate-continue", _migrate_continue, (Argument("state", "enum", values=_STATUSES),)),
    Command("migrate-start-postcopy", _migrate_start_postcopy),
    Command("migrate-pause", _migrate_pause, oob=True),
    Command("migrate-recover", _migrate_recover, (Argument("uri"),), oob=True),
    Command("migrate-set-capabilities", _set_capabilities, tuple(_SET_CAPABILITIES.values())),
    Command("query-migrate-capabilities", _query_capabilities),
    *(
        Command("migrate-set-parameters", _set_parameters, parameters.arguments(version), versions=(version,))
        for version in Version
    ),
    Command("query-migrate-parameters", _query_parameters),
    Command("query-migrate", _query_migrate),
    Command("query-migrationthreads", fixed([]), versions=(Version.V10_0,)),
    Command(
        "calc-dirty-rate",
        _calc_dirty_rate,
        (
            Argument("calc-time", "integer"),
            Argument("calc-time-unit", "enum", required=False, values=_UNITS, versions=LATER),
            Argument("sample-pages", "integer", required=False),
            Argument("mode", "enum", required=False, values=_MODES),
        ),
    ),
    Command(
        "query-dirty-rate",
        _query_dirty_rate,
        (Argument("calc-time-unit", "enum", required=False, values=_UNITS, versions=LATER),),
    ),
    Command(
        "set-vcpu-dirty-limit",
        _set_dirty_limit,
        (Argument("cpu-index", "integer", required=False), Argument("dirty-rate", "uint64")),
    ),
    Command("cancel-vcpu-dirty-limit", fixed({}), (Argument("cpu-index", "integer", required=False),)),
    Command("query-vcpu-dirty-limit", fixed([])),
    Command("announce-self", _announce, (
        Argument("initial", "integer"), Argument("max", "integer"),
        Argument("rounds", "integer"), Argument("step", "integer"),
        Argument("interfaces", "array", required=False), Argument("id", required=False),
    )),
    Command("yank", _yank, (Argument("instances", "array", members=_YANKED),), oob=True),
    Command("query-yank", _query_yank, oob=True),
    Command("client_migrate_info", _client_migrate_info, (
        Argument("protocol"), Argument("hostname"), Argument("port", "integer", required=False),
        Argument("tls-port", "integer", required=False), Argument("cert-subject", required=False),
    )),
    Command("getfd", _getfd, (Argument("fdname"),)),
    Command("closefd", _closefd, (Argument("fdname"),)),
)  # fmt: skip
