"""The exceptions that end a stage with one line instead of a traceback."""


def printable(text: str) -> str:
    """A text on one line, with escapes for what a terminal would act on or not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, and what to do about it.

    It may repeat a value of the configuration or what a server said, so what cannot be printed in it is escaped.
    exit_status: what the stage that it ends exits with.
    """

    exit_status = 2

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


def say(line: str) -> None:
    """A line of this project's own for whoever watches the run."""
    print(f"hyperkv: {printable(line)}", flush=True)


class PassingError(UserError):
    """A failure that may be over the next time: a busy server, a connection that broke. Worth another attempt."""


class StoreError(UserError):
    """A store refused or lost an operation (put, get, start); the message names the store and the cause."""


class StoreDied(StoreError):
    """A store's process ended while it was being measured."""
