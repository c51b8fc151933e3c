"""Who may ask: the password of a server that has one, with Redis's own texts."""

import hmac

from .. import resp_protocol as resp
from .connection import CommandError, Connection

NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


def do_auth(connection: Connection, arguments: list[bytes]) -> bytes:
    """AUTH [default] password."""
    password = connection.server.password
    if password is None:
        raise CommandError(NO_PASSWORD)
    known = hmac.compare_digest(arguments[-1], password.encode())
    if not known or (len(arguments) == 2 and arguments[0] != b"default"):
        raise CommandError("WRONGPASS invalid username-password pair or user is disabled.")
    connection.trusted = True
    return resp.OK


def without_login(connection: Connection, options: list[bytes]) -> list[bytes]:
    """The options of HELLO after AUTH, which is done."""
    if len(options) >= 3 and options[0].lower() == b"auth":
        do_auth(connection, options[1:3])
        options = options[3:]
    require_login(connection)
    return options


def require_login(connection: Connection) -> None:
    """Raises CommandError for a client that has not said the password."""
    if not connection.trusted:
        raise CommandError("NOAUTH Authentication required.")
