"""What every stage's command line shares: one-line errors and a clean end on signals."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .errors import UserError
from .parent import ends_with_parent
from .signals import ends_on_sigterm
from .surroundings import settle


def run_stage(stage: str, main: Callable[[], None], resumes: bool = False) -> int:
    """Run a stage's main. resumes: it keeps what it measured when it is interrupted.

    Exit status: 0 done, a UserError's own (2 unless it says otherwise; each line of it names the stage), 2 for an
    OSError, 130 when interrupted.
    """
    try:
        settle()
        with ends_on_sigterm(is_all=main.__module__ == "__main__"), ends_with_parent():
            main()
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


def _say(line: str) -> None:
    """On stderr, which a rule sends to its log, and on stdout, where the person at the terminal sees it."""
    print(line, file=sys.stderr, flush=True)
    if not os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
        print(line, flush=True)
