"""What a StripedCache is told: where the servers are and how they are used, and how an engine's keys say that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .deadline import Endpoint
from .direct import DEPTH, MOST_DEPTH, FileSettings
from .errors import UserError, above_zero
from .gate_settings import KEYS as GATE_KEYS
from .gate_settings import NO_GATE, GateSettings, gate_from
from .native import INSTALLED
from .pieces import READS
from .second_use import SAVES
from .secret import KEYS as SECRET_KEYS
from .secret import Secret
from .shape import KEYS as DEVICE_KEYS
from .shape import Device, device_from
from .stripes import STRIPE_BYTES, STRIPES_IN_FLIGHT
from .tls import Tls, context_of

LOADS_OF_FILES = 2
_TLS_KEYS = ("tls", "tls_ca_file", "tls_cert_file", "tls_key_file")
_HOSTS = {"module_path", "class_name"}  # keys beside ours that LMCache reads itself


@dataclass(frozen=True)
class CacheSettings:
    """Where the servers are and how they are used.

    connections: for loads, to each server. save_connections: for saves, None for as many; fewer leave more of the
    processor to the engine while it saves. stripes_in_flight: on each of them. timeout_s: of every call, see
    deadline.py. retry_s: after a failure the store is left alone for so long, and everything is a miss. save_queue_bytes:
    bound of what waits to be saved or is being saved; more is dropped. save: at which use a chunk is saved, see
    second_use.py. gate: how much lookups find, see
    gate_settings.py; of StripedL2 and inside LMCache. library: what loads, see native.py; None for Python.
    dirs: the servers' data folders in their order, whose files are read here where the servers answer LOCATE; read,
    read_threads, read_depth: how, see FileSettings of direct.py. loads: how many go on at once, each over connections of its own;
    None for one, or LOADS_OF_FILES with dirs, so that one's questions go on beside another's reads. bound_bytes: what is kept in
    the servers at most, see bound.py; None for no bound. device: what the servers are held to be together, see shape.py.
    engines: how many share the store; with several each load tells how much of it another saved, see savers.py.
    """

    endpoints: tuple[Endpoint, ...]
    connections: int = 4
    save_connections: int | None = None
    stripe_bytes: int = STRIPE_BYTES
    stripes_in_flight: int = STRIPES_IN_FLIGHT
    timeout_s: float = 3.0
    retry_s: float = 10.0
    save_queue_bytes: int = 1 << 30
    gate: GateSettings = NO_GATE
    library: Path | None = None
    dirs: tuple[Path, ...] = ()
    read: str = "auto"
    read_threads: int | None = None
    read_depth: int = DEPTH
    loads: int | None = None
    bound_bytes: int | None = None
    save: str = "first_use"
    device: Device = field(default_factory=Device)
    engines: int = 1

    @property
    def loads_at_once(self) -> int:
        """How many loads go on at once."""
        return self.loads or (LOADS_OF_FILES if self.dirs else 1)

    @property
    def files(self) -> FileSettings | None:
        """How the servers' files are read; None where they are not."""
        return FileSettings(self.dirs, self.read, self.read_threads, self.read_depth) if self.dirs else None

    @property
    def loads_by(self) -> str:
        """For a log: what loads, and where."""
        client = "Python" if self.library is None else f"compiled code, {self.library}"
        files = f", files in {', '.join(map(str, self.dirs))} ({self.read})" if self.files else ""
        shaped = f", held to be {self.device}" if self.device.is_stated else ""
        return f"{len(self.endpoints)} servers, {self.connections} connections to each, loads by {client}{files}{shaped}"


def settings_from(values: Mapping[str, Any], prefix: str) -> CacheSettings:
    """Settings from keys such as `<prefix>.connections`; `<prefix>.endpoints` is `host:port` or `unix:PATH`, by commas.

    `<prefix>.password_file`, or `<prefix>.password_env`, says where every server's password is (secret.py), `<prefix>.user` whose it is.
    `<prefix>.tls` true is TLS, with `<prefix>.tls_ca_file` and so on (tls.py), by client python. `<prefix>.key_prefix`: what every key begins with in servers that are shared. Loads are by
    compiled code where it was installed; `<prefix>.client`, python or native, chooses, and `<prefix>.library` names another
    build of it. `<prefix>.dirs` are folders by commas, as many as endpoints. `<prefix>.shape_read_gbps` and so on are the device.
    Raises UserError naming the key.
    """
    where = f"{prefix}.endpoints"
    text = values.get(where)
    if not text:
        raise UserError(f"{where} is missing; write host:port or unix:PATH, several separated by commas")
    if f"{prefix}.password" in values:
        raise UserError(
            f"{prefix}.password: LMCache logs its configuration; write the password into a file of mode 600 and name it in "
            f"{prefix}.password_file"
        )
    gate = gate_from(values, prefix)
    own = [item.name for item in fields(CacheSettings) if item.name != "device"]
    known = {
        *_HOSTS,
        *SECRET_KEYS,
        *GATE_KEYS,
        *DEVICE_KEYS,
        *_TLS_KEYS,
        "client",
        "user",
        "key_prefix",
        *own,
    }
    given_here = (key.removeprefix(f"{prefix}.") for key in values if key.startswith(f"{prefix}."))
    if unknown := sorted(key for key in given_here if key not in known and "." not in key):
        raise UserError(
            f"{prefix}.{unknown[0]}: there is no such key; there are {', '.join(sorted(known - _HOSTS))}"
        )
    password = Secret.of({key: values.get(f"{prefix}.{key}") for key in SECRET_KEYS})
    tls, user = _tls(values, prefix), values.get(f"{prefix}.user")
    key_prefix = str(values.get(f"{prefix}.key_prefix") or "")
    endpoints = tuple(
        replace(_endpoint(word.strip(), password, where), user=user, tls=tls, prefix=key_prefix)
        for word in str(text).split(",")
    )
    words = ("endpoints", "library", "dirs", "read", "gate", "save")
    numbers = [name for name in own if name not in words]
    given = {
        name: values[f"{prefix}.{name}"] for name in numbers if values.get(f"{prefix}.{name}") is not None
    }
    for name, value in given.items():
        given[name] = above_zero(f"{prefix}.{name}", value, float if name.endswith("_s") else int)
    dirs = tuple(
        Path(word.strip()) for word in str(values.get(f"{prefix}.dirs") or "").split(",") if word.strip()
    )
    if len(dirs) not in (0, len(endpoints)):
        raise UserError(
            f"{prefix}.dirs: {len(dirs)} folders for {len(endpoints)} endpoints; write one for each, in their order"
        )
    read = values.get(f"{prefix}.read") or "auto"
    if read not in READS:
        raise UserError(f"{prefix}.read: {read!r} is wrong; allowed are {', '.join(READS)}")
    save = values.get(f"{prefix}.save") or SAVES[0]
    if save not in SAVES:
        raise UserError(f"{prefix}.save: {save!r} is wrong; allowed are {', '.join(SAVES)}")
    if given.get("read_depth", DEPTH) > MOST_DEPTH:
        raise UserError(
            f"{prefix}.read_depth: {given['read_depth']} is wrong; at most {MOST_DEPTH} reads are under way in a thread"
        )
    library, device = _library(values, prefix, tls is not None), device_from(values, f"{prefix}.")
    return CacheSettings(
        endpoints, **given, library=library, dirs=dirs, read=read, gate=gate, save=save, device=device
    )


def _tls(values: Mapping[str, Any], prefix: str) -> Tls | None:
    given = {key.removeprefix("tls_"): values.get(f"{prefix}.{key}") for key in _TLS_KEYS}
    wanted = given.pop("tls")
    if wanted not in (None, True, False, "true", "false"):
        raise UserError(f"{prefix}.tls: {wanted!r} is wrong; write true or false")
    if wanted not in (True, "true"):
        if named := [name for name, value in given.items() if value is not None]:
            raise UserError(
                f"{prefix}.tls_{named[0]}: there is no TLS; set {prefix}.tls: true, or leave it out"
            )
        return None
    tls = Tls.of(given)
    try:
        context_of(tls)
    except UserError as error:
        raise UserError(f"{prefix}.{str(error).replace('.', '_', 1)}") from None
    return tls


def _library(values: Mapping[str, Any], prefix: str, tls: bool) -> Path | None:
    client, named = values.get(f"{prefix}.client"), values.get(f"{prefix}.library")
    if client not in (None, "python", "native"):
        raise UserError(f"{prefix}.client: {client!r} is wrong; write python or native")
    if tls and client == "native":
        raise UserError(f"{prefix}.client: native speaks no TLS; write python")
    if client == "python" or tls:
        return None
    if named is not None:
        return Path(named)
    return INSTALLED if client == "native" or INSTALLED.exists() else None


def _endpoint(word: str, password: Secret | None, where: str) -> Endpoint:
    if word.startswith("unix:"):
        return Endpoint("", 0, password, word.removeprefix("unix:"))
    host, _, port = word.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{where}: {word!r} is wrong; write host:port or unix:PATH")
    return Endpoint(host.strip("[]"), int(port), password)
