"""What every stage's command line shares: one-line errors and a clean end on signals."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .errors import UserError
from .processes import ends_on_sigterm


def run_stage(stage: str, main: Callable[[], None]) -> int:
    """Run a stage's main. Exit status: 0 done, 2 for a UserError (one line on stderr), 130 when interrupted."""
    try:
        with ends_on_sigterm():
            main()
    except UserError as error:
        _say(f"hyperkv {stage}: error: {error}")
        return 2
    except KeyboardInterrupt:
        _say(f"hyperkv {stage}: interrupted; what was measured is kept, run again to resume")
        return 130
    return 0


def _say(line: str) -> None:
    """On stderr, which a rule sends to its log, and on stdout, where the person at the terminal sees it."""
    print(line, file=sys.stderr, flush=True)
    if not os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
        print(line, flush=True)
