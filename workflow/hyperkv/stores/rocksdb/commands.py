"""The commands that the server knows, with Redis's own texts where it refuses."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import resp_protocol as resp
from .blob_files import Place
from .connection import CommandError, Connection
from .keys import as_text
from .login import do_auth, require_login, without_login

VERSION = "hyperkv-rocksdb"


@dataclass(frozen=True)
class Command:
    """A command's handler, which returns its reply unless it has sent it, and how many arguments follow its name (`most` None: any number)."""

    run: Callable[[Connection, list[bytes]], bytes | None]
    least: int = 0
    most: int | None = None


def answer(connection: Connection, arguments: list[bytes]) -> None:
    """Run one command and queue its reply. Raises OSError when the client has gone."""
    connection.counters.total_commands_processed += 1
    try:
        command = lookup(arguments)
        if command.run not in _BEFORE_LOGIN:
            require_login(connection)
        if (reply := command.run(connection, arguments[1:])) is not None:
            connection.writer.add(reply)
    except CommandError as refused:
        connection.writer.add(resp.error(str(refused)))
    except OSError:
        raise
    except Exception as error:  # rocksdict raises nothing narrower
        connection.writer.add(resp.error(f"ERR {error or type(error).__name__}"))


def lookup(arguments: list[bytes]) -> Command:
    """The command of a request. Raises CommandError with Redis's texts."""
    name = arguments[0].lower()
    command = COMMANDS.get(name)
    shown = arguments[0][:128].decode("latin-1")
    if command is None:
        beginning = "".join(f"'{word[:128].decode('latin-1')}' " for word in arguments[1:9])[:128]
        raise CommandError(f"ERR unknown command '{shown}', with args beginning with: {beginning}")
    given = len(arguments) - 1
    if given < command.least or (command.most is not None and given > command.most):
        raise CommandError(f"ERR wrong number of arguments for '{shown.lower()}' command")
    return command


def do_ping(connection: Connection, arguments: list[bytes]) -> bytes:
    """PING [message]."""
    return resp.bulk(arguments[0]) if arguments else resp.simple("PONG")


def do_echo(connection: Connection, arguments: list[bytes]) -> bytes:
    """ECHO message."""
    return resp.bulk(arguments[0])


def do_quit(connection: Connection, arguments: list[bytes]) -> bytes:
    """QUIT: reply, then close."""
    connection.closing = True
    return resp.OK


def do_reset(connection: Connection, arguments: list[bytes]) -> bytes:
    """RESET: forget the name, the protocol version and the password."""
    connection.name, connection.protocol = b"", 2
    connection.trusted = connection.server.password is None
    return resp.simple("RESET")


def do_select(connection: Connection, arguments: list[bytes]) -> bytes:
    """SELECT 0: there is one database."""
    number = resp.parse_length(arguments[0])
    if number is None:
        raise CommandError("ERR value is not an integer or out of range")
    if number != 0:
        raise CommandError("ERR DB index is out of range")
    return resp.OK


def send_value(connection: Connection, key: bytes) -> None:
    """Queue one key's value, or nil, and count it."""
    value = connection.server.keyspace.get(key)
    if value is None:
        connection.counters.keyspace_misses += 1
        connection.writer.add(resp.NIL[connection.protocol])
        return
    connection.counters.keyspace_hits += 1
    connection.counters.value_bytes_read += len(value)
    connection.writer.add(b"$%d\r\n" % len(value), value, resp.CRLF)


def do_get(connection: Connection, arguments: list[bytes]) -> None:
    """GET key."""
    send_value(connection, arguments[0])


def do_mget(connection: Connection, arguments: list[bytes]) -> None:
    """Values go out one by one, so memory holds one; an unreadable one is an error within the array."""
    connection.writer.add(b"*%d\r\n" % len(arguments))
    for key in arguments:
        try:
            send_value(connection, key)
        except OSError:
            raise
        except Exception as error:
            connection.writer.add(resp.error(f"ERR {error}"))


def do_locate(connection: Connection, arguments: list[bytes]) -> bytes:
    """LOCATE key [key ...]: nil, an empty string where GET has to tell the value, or `OFFSET LENGTH FILE`: where its bytes
    are in a file of the server's directory."""
    places = connection.server.keyspace.locate(arguments)
    connection.counters.keyspace_hits += sum(isinstance(place, Place) for place in places)
    connection.counters.keyspace_misses += sum(place is False for place in places)
    return resp.array(
        [
            resp.bulk(f"{place.offset} {place.size} {place.file}".encode())
            if isinstance(place, Place)
            else resp.bulk(b"")
            if place
            else resp.NIL[connection.protocol]
            for place in places
        ]
    )


def put(connection: Connection, pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Store pairs and count their bytes: OK."""
    connection.server.keyspace.put(pairs)
    connection.counters.value_bytes_written += sum(len(value) for _, value in pairs)
    return resp.OK


def do_set(connection: Connection, arguments: list[bytes]) -> bytes:
    """SET key value, without options."""
    if len(arguments) > 2:
        raise CommandError("ERR syntax error")
    return put(connection, [(arguments[0], arguments[1])])


def do_mset(connection: Connection, arguments: list[bytes]) -> bytes:
    """MSET key value [key value ...], atomic."""
    if len(arguments) % 2:
        raise CommandError("ERR wrong number of arguments for 'mset' command")
    return put(connection, list(zip(arguments[::2], arguments[1::2], strict=True)))


def do_exists(connection: Connection, arguments: list[bytes]) -> bytes:
    """EXISTS key [key ...]."""
    store = connection.server.keyspace
    return resp.integer(sum(store.length(key) is not None for key in arguments))


def do_strlen(connection: Connection, arguments: list[bytes]) -> bytes:
    """STRLEN key."""
    return resp.integer(connection.server.keyspace.length(arguments[0]) or 0)


def do_delete(connection: Connection, arguments: list[bytes]) -> bytes:
    """DEL or UNLINK key [key ...]."""
    return resp.integer(connection.server.keyspace.delete(arguments))


def do_dbsize(connection: Connection, arguments: list[bytes]) -> bytes:
    """DBSIZE, exact."""
    return resp.integer(connection.server.keyspace.count())


def do_scan(connection: Connection, arguments: list[bytes]) -> bytes:
    """SCAN cursor [COUNT count]: every key at once, whatever the cursor."""
    if not arguments[0].isdigit():
        raise CommandError("ERR invalid cursor")
    if arguments[1:] and (len(arguments) != 3 or arguments[1].lower() != b"count"):
        raise CommandError("ERR syntax error")
    keys = [resp.bulk(key) for key in connection.server.keyspace.all_keys()]
    return resp.array([resp.bulk(b"0"), resp.array(keys)])


def do_flush(connection: Connection, arguments: list[bytes]) -> bytes:
    """FLUSHALL or FLUSHDB, disk space included."""
    if arguments and arguments[0].lower() not in (b"sync", b"async"):
        raise CommandError("ERR syntax error")
    connection.server.keyspace.clear()
    return resp.OK


def do_info(connection: Connection, arguments: list[bytes]) -> bytes:
    """INFO [section ...]."""
    asked = {word.decode("latin-1").lower() for word in arguments}
    everything = not asked or bool(asked & {"all", "default", "everything"})
    sections = connection.server.sections()
    shown = [
        "\r\n".join([f"# {name}", *(f"{key}:{value}" for key, value in build().items()), ""])
        for name, build in sections.items()
        if everything or name.lower() in asked
    ]
    return resp.bulk("\r\n".join(shown).encode())


def do_config(connection: Connection, arguments: list[bytes]) -> bytes:
    """CONFIG GET pattern [pattern ...], of the effective values; CONFIG SET is refused."""
    settings = connection.server.keyspace.settings
    subcommand = arguments[0].lower()
    if subcommand == b"get" and len(arguments) > 1:
        values = {name: as_text(value) for name, value in settings.items()}
        values |= {"save": "", "appendonly": "no", "databases": "1"}
        patterns = [pattern.decode("latin-1").lower() for pattern in arguments[1:]]
        pairs = [
            (resp.bulk(name.encode()), resp.bulk(text.encode()))
            for name, text in values.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]
        return resp.mapping(pairs, connection.protocol)
    if subcommand == b"set" and len(arguments) > 2:
        name = arguments[1].decode("latin-1")
        raise CommandError(f"ERR Unsupported CONFIG parameter: {name}: restart with --set {name} VALUE")
    raise unknown_subcommand("CONFIG", arguments[0])


def do_client(connection: Connection, arguments: list[bytes]) -> bytes:
    """CLIENT SETNAME, SETINFO, GETNAME, ID, INFO or LIST."""
    match arguments[0].lower(), *arguments[1:]:
        case b"setname", name:
            connection.name = name
            return resp.OK
        case b"setinfo", key, value:
            connection.library[key.lower()] = value
            return resp.OK
        case (b"getname",):
            return resp.bulk(connection.name)
        case (b"id",):
            return resp.integer(connection.number)
        case (b"info",):
            return resp.bulk(connection.describe().encode() + b"\n")
        case b"list", *_:
            lines = [other.describe() + "\n" for other in connection.server.live()]
            return resp.bulk("".join(lines).encode())
    raise unknown_subcommand("CLIENT", arguments[0])


def do_command(connection: Connection, arguments: list[bytes]) -> bytes:
    """COMMAND [COUNT | LIST | DOCS | INFO]; the last two are empty."""
    asked = arguments[0].lower() if arguments else b"info"
    if asked == b"count":
        return resp.integer(len(COMMANDS))
    if asked in (b"list", b"docs", b"info"):
        return resp.array([resp.bulk(name) for name in sorted(COMMANDS)] if asked == b"list" else [])
    raise unknown_subcommand("COMMAND", arguments[0])


def do_hello(connection: Connection, arguments: list[bytes]) -> bytes:
    """HELLO [2 | 3 [AUTH default password] [SETNAME name]]."""
    wanted = resp.parse_length(arguments[0]) if arguments else connection.protocol
    if wanted is None:
        raise CommandError("ERR Protocol version is not an integer or out of range")
    if wanted not in (2, 3):
        raise CommandError("NOPROTO unsupported protocol version")
    options = without_login(connection, arguments[1:])
    if options and not (len(options) == 2 and options[0].lower() == b"setname"):
        raise CommandError("ERR syntax error in HELLO")
    if options:
        connection.name = options[1]
    connection.protocol = wanted if connection.server.keyspace.settings["resp3-enabled"] else 2
    facts = {
        b"server": resp.bulk(VERSION.encode()),
        b"version": resp.bulk(connection.server.wheel_version.encode()),
        b"proto": resp.integer(connection.protocol),
        b"id": resp.integer(connection.number),
        b"mode": resp.bulk(b"standalone"),
        b"role": resp.bulk(b"master"),
        b"modules": resp.array([]),
    }
    pairs = [(resp.bulk(name), value) for name, value in facts.items()]
    return resp.mapping(pairs, connection.protocol)


def do_shutdown(connection: Connection, arguments: list[bytes]) -> None:
    """SHUTDOWN: as SIGTERM."""
    if arguments and arguments[0].lower() not in (b"save", b"nosave"):
        raise CommandError("ERR syntax error")
    connection.closing = True
    connection.server.stop()


def unknown_subcommand(command: str, given: bytes) -> CommandError:
    """Redis's refusal of a subcommand it does not know, or with too few or many arguments."""
    shown = given[:128].decode("latin-1")
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {command} HELP."
    )


_BEFORE_LOGIN = (do_auth, do_hello, do_quit, do_reset)
COMMANDS: dict[bytes, Command] = {
    b"ping": Command(do_ping, 0, 1),
    b"echo": Command(do_echo, 1, 1),
    b"quit": Command(do_quit),
    b"reset": Command(do_reset, 0, 0),
    b"auth": Command(do_auth, 1, 2),
    b"select": Command(do_select, 1, 1),
    b"get": Command(do_get, 1, 1),
    b"set": Command(do_set, 2),
    b"mget": Command(do_mget, 1),
    b"mset": Command(do_mset, 2),
    b"locate": Command(do_locate, 1),
    b"exists": Command(do_exists, 1),
    b"strlen": Command(do_strlen, 1, 1),
    b"del": Command(do_delete, 1),
    b"unlink": Command(do_delete, 1),
    b"dbsize": Command(do_dbsize, 0, 0),
    b"scan": Command(do_scan, 1),
    b"flushall": Command(do_flush, 0, 1),
    b"flushdb": Command(do_flush, 0, 1),
    b"info": Command(do_info),
    b"config": Command(do_config, 1),
    b"client": Command(do_client, 1),
    b"command": Command(do_command),
    b"hello": Command(do_hello),
    b"shutdown": Command(do_shutdown, 0, 1),
}
