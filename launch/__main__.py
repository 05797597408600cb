"""`python -m launch` is `hybrid`."""

from workers.quiet_interrupt import end_quietly_when_interrupted

end_quietly_when_interrupted()

from launch.cli import main  # noqa: E402 - it takes a moment, in which Ctrl-C may come

main(prog_name="hybrid")
