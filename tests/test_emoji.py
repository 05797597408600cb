"""The emoji set, on a registry of six characters in four designs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import mean_colour, write_packages, write_tarball

from hybrid.data import emoji
from hybrid.data.build_view import SplitRule, split_items
from hybrid.data.concepts import concept_of
from hybrid.data.prepare import prepare
from hybrid.data.stats import stats
from hybrid.data.view import View
from launch.config import EMOJI_DESIGNS, DataConfig
from workers.errors import ConfigError, DataError

DESIGNS = [design.name for design in emoji.DESIGNS]


def prepared(cache: Path, **settings: object) -> View:
    if not (cache / "npm").exists():
        write_packages(cache / "npm")
    return prepare(DataConfig(cache_dir=str(cache), image_size=24, **settings))


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    return prepared(tmp_path_factory.mktemp("cache"))


def true_tags(view: View, name: str) -> set[str]:
    """Known tags of an item."""
    item = view.names.index(name)
    tags = view.tags_of
    return {view.vocabulary.tags[i] for i in tags.values[tags.offsets[item] : tags.offsets[item + 1]]}


def test_items_are_annotated_characters_in_each_design(view: View) -> None:
    codes = ["1f420", "1f431", "1f468-200d-1f680", "1f469-1f3fd-200d-1f680", "2764-fe0f"]
    assert sorted(view.names) == sorted(f"{design}/{code}" for design in DESIGNS for code in codes)
    assert view.dropped["items without tags"] == 4
    assert "noto/e001\thouse style" in view.skipped_path.read_text()


def test_tags_are_the_union_over_languages_in_one_spelling(view: View) -> None:
    expected = {
        "noto/1f431": {"pet", "animal", "cat", "tier", "strasse", "katze"},
        "noto/2764-fe0f": {"love", "red heart", "rotes herz"},
        "twemoji/1f468-200d-1f680": {"space", "rocket", "man astronaut"},
        "openmoji/1f469-1f3fd-200d-1f680": {"space", "woman astronaut: medium skin tone"},
    }
    for name, tags in expected.items():
        item = view.names.index(name)
        assert true_tags(view, name) <= tags
        assert len(true_tags(view, name)) + view.num_unseen_tags[item] == len(tags)
    assert view.vocabulary.id_of("↑↑↑") is None


def test_drawings_keep_their_transparency_and_shape(view: View) -> None:
    for design, colour in (("noto", [255, 0, 0, 255]), ("openmoji", [255, 255, 0, 255])):
        (image,) = view.images.read(np.array([view.names.index(f"{design}/1f420")]))[0]
        assert image.shape == (32, 32, 4)
        assert mean_colour(image[12:20, 12:20]) == colour
        assert mean_colour(image[:6])[3] == 0
    (wide,) = view.images.read(np.array([view.names.index("noto/1f431")]))[0]  # 16 x 8: centred, not stretched
    assert mean_colour(wide[17:23, 12:20]) == [255, 0, 0, 255] and mean_colour(wide[:15])[3] == 0


def test_gallery_pictures_are_drawn_at_the_size_wanted(view: View) -> None:
    with Image.open(io.BytesIO(view.png(0, 200))) as image:
        assert image.size == (200, 200) and image.mode == "RGBA"


def test_description_is_for_people(view: View) -> None:
    item = view.names.index("twemoji/2764-fe0f")
    assert view.describe(item) == {
        "name": "twemoji/2764-fe0f",
        "title": "red heart",
        "character": "❤️",
        "design": "twemoji",
        "code": "2764-fe0f",
        "concept": "2764",
    }
    assert view.group is not None and view.group_names[view.group[item]] == "twemoji"
    assert set(view.licences) == {*DESIGNS, "annotations"}


def test_a_concept_is_on_one_side_in_all_designs_skin_tones_and_genders(view: View) -> None:
    parts = [view.train_items, view.valid_items, view.test_items]
    sides = [{view.describe(int(item))["concept"] for item in part} for part in parts]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 4
    assert sum(map(len, parts)) == len(view)
    assert concept_of("👨‍🚀") in set.union(*sides)


def test_preparing_again_reads_no_package(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = view.folder.parent.parent
    for tarball in (cache / "npm").iterdir():
        tarball.unlink()
    monkeypatch.setenv("PATH", "")
    again = prepared(cache)
    assert again.fingerprint == view.fingerprint
    assert prepared(cache, hold_out_design="noto").fingerprint != view.fingerprint


def test_held_out_design_is_tested_on_training_concepts_only(view: View) -> None:
    held = prepared(view.folder.parent.parent, hold_out_design="twemoji")
    assert held.group is not None
    number = held.group_names.index("twemoji")
    for part in (held.train_items, held.valid_items, held.test_items):
        assert len(part) and not np.any(held.group[part] == number)
    (extra,) = held.extra_test.values()
    assert list(held.extra_test) == ["twemoji"] and np.all(held.group[extra] == number)

    def concepts(items: np.ndarray) -> set[str]:
        return {held.describe(int(item))["concept"] for item in items}

    assert concepts(extra) == concepts(held.train_items)
    assert concepts(held.test_items) == concepts(view.test_items)
    assert np.all(held.vocabulary.counts % 3 == 0) and np.all(view.vocabulary.counts % 4 == 0)  # once per design


def test_settings_know_the_designs_that_are_fetched() -> None:
    assert tuple(design.name for design in emoji.DESIGNS) == EMOJI_DESIGNS


def test_unknown_design_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'twemoji'"):
        prepared(tmp_path, hold_out_design="twemojis")


def test_a_slice_is_prepared_alone(view: View) -> None:
    small = prepared(view.folder.parent.parent, max_items=12)
    assert len(small) == 12 and set(small.names) < set(view.names)
    for item, name in enumerate(small.names):
        same = view.names.index(name)
        assert np.array_equal(small.images.read(np.array([item]))[0], view.images.read(np.array([same]))[0])
        assert small.png(item, 32) == view.png(same, 32)


def test_a_drawing_that_cannot_be_rendered_is_left_out(tmp_path: Path) -> None:
    write_packages(tmp_path / "npm", {"1f431": '<path d="'})
    view = prepared(tmp_path)
    assert view.dropped["items with unreadable pictures"] == 4
    assert len(view) == 16 and not any("1f431" in name for name in view.names)
    fish = view.names.index("twemoji/1f420")
    assert view.describe(fish)["code"] == "1f420"
    assert mean_colour(view.images.read(np.array([fish]))[0][0][12:20, 12:20]) == [0, 0, 255, 255]


def test_package_of_another_form_is_named(tmp_path: Path) -> None:
    write_packages(tmp_path / "npm")
    write_tarball(
        tmp_path / "npm", emoji.DESIGNS[1].package, {"icons.json": {"icons": {}}, "chars.json": {"1f431": "cat"}}
    )
    with pytest.raises(DataError, match=r"fluent-emoji-flat-1\.2\.6\.tgz"):
        prepared(tmp_path)


def test_split_rule_without_designs() -> None:
    rule = SplitRule(test_fraction=0.2, valid_fraction=0.1, hold_out_design="")
    names = [str(i) for i in range(50)]
    assert split_items(names, names, None, [], rule).extra == {}


def test_stats_count_designs(view: View) -> None:
    report = stats(view)
    assert report["items per design"] == dict.fromkeys(DESIGNS, 5)
    assert report["distinct annotations"] == 15 and report["locales"] == 2
