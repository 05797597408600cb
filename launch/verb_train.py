"""The verb `train`."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from launch.installation import check_device, check_trunk
from launch.paths import check_path
from launch.resolve import resolve, resolve_resumed
from launch.run_argument import RUN
from launch.runs import create_run
from launch.train_options import given_settings, train_options
from workers.cache_root import inherit_cache_root

PROFILE_STEPS = 100
"""What `--profile` traces: seconds of most runs, and a file of some megabytes."""

_EPILOG = """\b
Examples:
  hybrid train
  hybrid train --minutes 3 --workers 2
  hybrid train --data folder:photos/ --hold-out 0.1 --epochs 20
  hybrid train --config my.toml --set train.weight_decay=0.1
  hybrid train --resume last
  hybrid train --resume last --data folder:moved/photos/

Settings come from the defaults, then --config, then named options, then --set; the last one wins. All of them are
written to config.toml in the run directory, by a resume with its first step; --config reads it again. With --resume,
--data says where a folder was moved or copied to; it has to hold the same as far as training sees. Ctrl-C finishes the
step, saves and exits; a second Ctrl-C ends everything at once. SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 stop a run as
the first one does.

The exit status is 0 for a run that finished, or that was stopped and saved; 130 for one that was stopped before it had
its data and tag matrix, or by a second Ctrl-C; 1 for one that failed; 2 for a setting that cannot be.
"""


@click.command(epilog=_EPILOG)
@train_options
@click.option(
    "--private-negatives",
    is_flag=True,
    help="Draw negatives for each example instead of for each chunk; give --negatives too, 20 say.",
)
@click.option("--pin/--no-pin", "pin", default=None, help="Keep the trunk and each worker to cores of their own.")
@click.option(
    "--profile", is_flag=True, help=f"Trace {PROFILE_STEPS} steps into trace.json, which ui.perfetto.dev opens."
)
@click.option("--run-dir", type=click.Path(path_type=Path), help="Directory of the run. [default: runs/DATE-NAME]")
@click.option("--resume", type=RUN, metavar="RUN", help="Go on with a run from its last checkpoint.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE.toml", help="Read settings from a file."
)
@click.option("--set", "sets", multiple=True, metavar="a.b=c", help="Set any setting by its dotted name; repeatable.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object at the end; progress goes to stderr.")
@click.pass_context
def train(
    context: click.Context,
    private_negatives: bool,
    pin: bool | None,
    profile: bool,
    run_dir: Path | None,
    resume: Path | None,
    file: Path | None,
    sets: tuple[str, ...],
    json_output: bool,
    **options: Any,
) -> None:
    """Train a trunk and a tag matrix; show metrics and a gallery at the end."""
    named = given_settings(options)
    if pin is not None:
        named["pin"] = pin
    if profile:
        named.setdefault("profile_steps", PROFILE_STEPS)
    if private_negatives:
        named["head.private_negatives"] = True
    if resume is not None and run_dir is not None:
        raise click.UsageError("--resume goes on in the directory of its run: leave out --run-dir.")
    again = None if resume is None else partial(resolve_resumed, resume, file, named, sets)
    settings = again() if again else resolve(file, named, sets)
    check_device(settings)
    check_trunk(settings)
    if run_dir is not None:
        check_path("--run-dir", str(run_dir))

    inherit_cache_root(settings.data.cache_dir)
    from launch.train import train as run_training  # late: it loads numpy and numba, which --help must not

    directory = resume or create_run(settings, run_dir)  # later still: Ctrl-C while they load leaves no directory
    context.exit(run_training(directory, settings, resume=again, json_output=json_output))
