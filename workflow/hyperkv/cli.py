"""What every stage's command line shares: one-line errors and a clean end on signals."""

from __future__ import annotations

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
        print(f"hyperkv {stage}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"hyperkv {stage}: interrupted; what was measured is kept, run again to resume", file=sys.stderr
        )
        return 130
    return 0
