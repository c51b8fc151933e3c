"""The exceptions that end a stage with one line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, and what to do about it.

    exit_status: what the stage that it ends exits with.
    """

    exit_status = 2


class PassingError(UserError):
    """A failure that may be over the next time: a busy server, a connection that broke. Worth another attempt."""


class StoreError(UserError):
    """A store refused or lost an operation (put, get, start); the message names the store and the cause."""


class StoreDied(StoreError):
    """A store's process ended while it was being measured."""
