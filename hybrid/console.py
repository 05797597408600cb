"""The console command `hybrid`: the launcher, if Python finds ours."""

from hybrid.neighbouring_packages import check_neighbour
from workers.quiet_interrupt import end_quietly_when_interrupted


def main() -> None:
    """Run the command line; where another package called `launch` comes first, say so with exit status 1."""
    end_quietly_when_interrupted()
    try:
        check_neighbour("launch")
    except ImportError as error:
        raise SystemExit(f"Error: {error}") from error
    from launch.cli import main as run

    run()
