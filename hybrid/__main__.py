"""The verbs of the deep side, as the launcher starts them: `python -m hybrid VERB`."""

import io
import sys

from hybrid.verbs import verbs
from workers.errors import HybridError


def main() -> None:
    """Run a verb; a known error becomes one message and exit status 1, anything else a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        verbs(prog_name="hybrid")
    except HybridError as e:
        print(f"Error: {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
