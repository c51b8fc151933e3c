"""What every stage's command line shares: options, one-line errors and a clean end on signals."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .errors import UserError
from .parent import ends_with_parent
from .surroundings import settle

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_PATIENCE_S = 20.0


def run_stage(stage: str, main: Callable[..., None], resumes: bool = False) -> int:
    """Run a stage's main (see `call`). resumes: it keeps what it measured when it is interrupted.

    Exit status: 0 done, a UserError's own (2 unless it says otherwise; each line of it names the stage), 2 for an
    OSError, 130 when interrupted.
    """
    try:
        settle()
        with ends_on_sigterm(is_all=main.__module__ == "__main__"), ends_with_parent():
            call(main, sys.argv[1:])
    except UserError as error:
        for line in str(error).splitlines():
            _say(f"hyperkv {stage}: error: {line}")
        return error.exit_status
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"hyperkv {stage}: error: {where}{error.strerror or error}; mend that and run again")
        return 2
    except KeyboardInterrupt:
        kept = "what was measured is kept, run again to resume" if resumes else "run again"
        _say(f"hyperkv {stage}: interrupted; {kept}")
        return 130
    return 0


def call(main: Callable[..., None], words: Sequence[str]) -> None:
    """Call a stage's main with what the words say: its keyword parameters are the options, its module's docstring the help.

    A main without parameters reads the command line itself: it runs where nothing but the standard library is sure to be
    there. Raises UserError naming an option that is wrong.
    """
    if not inspect.signature(main).parameters:
        return main()
    from cyclopts import App, CycloptsError, Parameter

    module: Any = sys.modules[main.__module__]
    app = App(
        name=f"python -m {module.__spec__.name}" if module.__spec__ else "",
        default_command=main,
        default_parameter=Parameter(negative=()),
        help=module.__doc__,
        help_format="plaintext",
        help_formatter="plain",
        version_flags=[],
    )
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UserError(f"{' '.join(str(error).split()).rstrip('.')}; --help tells the options") from None
    command(*bound.args, **bound.kwargs)


def _say(line: str) -> None:
    """On stderr, which a rule sends to its log, and on stdout, where the person at the terminal sees it."""
    print(line, file=sys.stderr, flush=True)
    if not os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
        print(line, flush=True)


@contextlib.contextmanager
def ends_on_sigterm(is_all: bool = False) -> Iterator[None]:
    """Turn SIGTERM, SIGINT, SIGHUP and SIGQUIT into KeyboardInterrupt inside the block, so that context managers end their
    servers.

    The first one does; a terminal, Snakemake and a scheduler may each send one, and those that follow within
    20 s do not disturb the end. What whoever started the process had it ignore (nohup: SIGHUP) stays ignored, but for
    SIGTERM. is_all: the process does nothing after the block; once that has ended well, its results are written, and a
    signal while the interpreter ends does not make a failure of them.
    """
    first: list[float] = []

    def interrupt(*_: object) -> None:
        if not first or time.monotonic() > first[-1] + _PATIENCE_S:
            first.append(time.monotonic())
            raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in _NUMBERS}
    taken = [number for number in _NUMBERS if number == signal.SIGTERM or previous[number] != signal.SIG_IGN]
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield
    except BaseException:
        is_all = False
        raise
    finally:
        for number in taken:
            signal.signal(number, _ended_well if is_all else previous[number] or signal.SIG_DFL)


def _ended_well(*_: object) -> None:
    """Nothing is left to end."""
