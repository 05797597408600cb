"""`python -m launch` is `hybrid`."""

from launch.cli import main

main(prog_name="hybrid")
