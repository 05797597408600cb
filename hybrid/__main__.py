"""The verbs of the deep side, as the launcher starts them: `python -m hybrid VERB`."""

import contextlib
import sys

from hybrid.neighbouring_packages import check_neighbour
from workers.quiet_interrupt import end_quietly_when_interrupted


def main() -> None:
    """Run a verb; a known error is one message and exit status 1 (2: a setting that cannot be), others a traceback."""
    end_quietly_when_interrupted()
    from hybrid.verbs import verbs  # late, as what follows: it takes a moment, in which Ctrl-C may come
    from workers.errors import ConfigError, HybridError
    from workers.json_text import escape_unprintable

    escape_unprintable()
    check_neighbour("launch")
    try:
        verbs(prog_name="hybrid")
    except HybridError as e:
        with contextlib.suppress(OSError):  # a log on a full disk: the status is told all the same
            print(f"Error: {e}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(e, ConfigError) else 1)


if __name__ == "__main__":
    main()
