"""Searching pictures by words, and neighbouring tags."""

import errno

import numpy as np
import pytest
from album import TAGS, Album

import hybrid.neighbours as neighbours
from hybrid.data.vocabulary import TagVocabulary
from hybrid.image_index import ImageIndex
from hybrid.neighbours import nearest_tags
from hybrid.page import found
from hybrid.query import query_vector_D, read_query
from hybrid.ranking import LiveRows
from hybrid.search import best, script_of, search
from workers.errors import ConfigError, DataError, RunError


@pytest.fixture
def album():
    return Album()


@pytest.fixture
def index(album):
    """Features are one-hot of the item, so rows say directly how each item scores."""
    return ImageIndex(np.arange(48), np.eye(48, dtype=np.float32), "album", step=1)


@pytest.fixture
def rows():
    return LiveRows(np.random.default_rng(0).standard_normal((len(TAGS), 48)).astype(np.float32))


def test_exact_tag_ranks_by_its_own_row(album, index, rows):
    result = search("Water ", 5, pictures=album, index=index, rows=rows)
    assert result.query.is_tag and result.tags == ("water",)
    assert [hit.item for hit in result.hits] == np.argsort(-rows.rows_ND[1])[:5].tolist()
    assert [hit.is_true for hit in result.hits] == [hit.item % 2 == 0 for hit in result.hits]
    assert result.num_true == 24 and result.num_images == 48


def test_a_tag_of_two_words_is_not_taken_apart(album):
    assert read_query("SEA  lion", album.vocabulary).tag_ids == (9,)


def test_words_are_averaged_at_equal_length_and_unknown_ones_named(album, index, rows):
    rows.rows_ND[1] *= 1000
    result = search("water blorb red water", 48, pictures=album, index=index, rows=rows)
    assert result.tags == ("water", "red") and result.query.unknown_words == ("blorb",)
    unit = [rows.rows_ND[t] / np.linalg.norm(rows.rows_ND[t]) for t in (1, 4)]
    assert query_vector_D(result.query, rows) == pytest.approx((unit[0] + unit[1]) / 2, abs=1e-6)
    assert [hit.item for hit in result.hits if hit.is_true] == [
        hit.item for hit in result.hits if hit.item % 2 == 0 and hit.item % 5 == 0
    ]


def test_a_tag_that_no_picture_searched_has_is_said_to_be_on_none(album, rows):
    odd = ImageIndex(np.arange(1, 48, 2), np.eye(48, dtype=np.float32)[1::2], "album", step=1)
    result = search("water", 3, pictures=album, index=odd, rows=rows)
    assert result.num_true == 0 and len(result.hits) == 3
    assert found(result) == "none of the 24 searched has this tag, these are the nearest"
    several = search("water red", 3, pictures=album, index=odd, rows=rows)
    assert found(several).endswith("none of the 24 searched has all of these tags, these are the nearest")


def test_nothing_known_gives_suggestions_and_no_hits(album, index, rows):
    result = search("watr", 5, pictures=album, index=index, rows=rows)
    assert result.hits == () and result.query.suggestions[0] == "water"
    assert result.plain()["unknown_words"] == ["watr"]


@pytest.mark.parametrize("text", ["", "  ", " , ,"])
def test_a_query_without_a_word_is_an_error(album, text):
    with pytest.raises(DataError, match="holds no word"):
        read_query(text, album.vocabulary)


def test_parts_between_commas_are_tags_or_taken_apart(album):
    ids = album.vocabulary.id_of
    assert read_query("water,red", album.vocabulary).tag_ids == (ids("water"), ids("red"))
    query = read_query("Sea lion、 red blorb ,", album.vocabulary)
    assert query.tag_ids == (ids("sea lion"), ids("red")) and query.unknown_words == ("blorb",)


def test_a_tag_that_holds_a_comma_is_found_whole(album):
    album.vocabulary = TagVocabulary([*album.vocabulary.tags, "1,000"], [*album.vocabulary.counts, 1])
    query = read_query("1,000", album.vocabulary)
    assert query.is_tag and query.tag_ids == (len(album.vocabulary) - 1,)


def test_what_was_searched_for_is_said_without_what_is_unknown(album, index, rows):
    def told(text):
        return found(search(text, 3, pictures=album, index=index, rows=rows))

    assert told("blorb water").startswith("unknown, so left out: blorb · searched for water alone · true: ")
    assert told("water red").startswith("searched for the mean of water, red · true: ")
    assert told("water").startswith("true: ")


def test_tags_never_seen_in_training_are_unknown(album):
    album.vocabulary.counts[1] = 0
    assert read_query("water", album.vocabulary).tag_ids == ()


def test_shown_tags_start_with_the_query_then_its_script(album, index, rows):
    hits = search("花", 48, pictures=album, index=index, rows=rows).hits
    first = next(hit for hit in hits if hit.item == 0)
    assert first.tags[0] == "花" and len(first.tags) == 4
    arabic = next(hit for hit in search("قلب", 48, pictures=album, index=index, rows=rows).hits if hit.item == 0)
    assert arabic.tags[0] == "قلب"


def test_words_of_titles_come_before_other_tags_of_the_script(album, index, rows, monkeypatch):
    album.train_items = np.arange(1000)
    monkeypatch.setattr(Album, "describe", lambda album, item: {"title": "a flower: blue"})
    hits = search("water", 48, pictures=album, index=index, rows=rows).hits
    assert next(hit for hit in hits if hit.item == 0).tags == ("water", "blue", "flower", "red")


def test_only_the_best_of_variants_is_shown_unless_all_are_wanted(album, index, rows, monkeypatch):
    monkeypatch.setattr(Album, "describe", lambda album, item: {"concept": str(item % 5), "design": str(item % 2)})
    everything = search("water", 48, pictures=album, index=index, rows=rows, with_variants=True)
    assert len(everything.hits) == 48 and everything.num_variants == 0
    result = search("water", 48, pictures=album, index=index, rows=rows)
    first = {}
    for hit in everything.hits:
        first.setdefault((hit.item % 5, hit.item % 2), hit.item)
    assert [hit.item for hit in result.hits] == list(first.values()) and len(first) == 10
    best_three = search("water", 3, pictures=album, index=index, rows=rows)
    assert [hit.item for hit in best_three.hits] == list(first.values())[:3]


def test_where_there_are_fewer_concepts_than_were_asked_for_all_others_are_variants(album, index, rows, monkeypatch):
    monkeypatch.setattr(Album, "describe", lambda album, item: {"concept": str(item % 5)})
    result = search("water", 48, pictures=album, index=index, rows=rows)
    assert len(result.hits) == 5 and result.num_variants == len(index.items_I) - 5


def test_variants_left_out_are_those_between_the_hits_and_are_counted(album, index, rows, monkeypatch):
    ranked = search("water", 6, pictures=album, index=index, rows=rows).hits
    same = {ranked[0].item, ranked[1].item, ranked[3].item, ranked[5].item}
    monkeypatch.setattr(Album, "describe", lambda album, item: {"concept": "one" if item in same else str(item)})
    result = search("water", 3, pictures=album, index=index, rows=rows)
    assert [hit.item for hit in result.hits] == [ranked[place].item for place in (0, 2, 4)]
    assert result.num_variants == result.plain()["variants"] == 2
    assert found(result).endswith("2 variants of these left out")


def test_fewer_images_than_asked_for(album, rows):
    small = ImageIndex(np.array([3, 4]), np.eye(48, dtype=np.float32)[:2], "album", step=1)
    assert len(search("water", 10, pictures=album, index=small, rows=rows).hits) == 2


def test_equal_scores_come_in_the_order_of_the_index():
    assert best(np.array([1, 2, 2, 0, 2.0]), 2).tolist() == [1, 2]
    assert best(np.array([1, 2, 2, 0, 2.0]), 9).tolist() == [1, 2, 4, 0, 3]


def test_scripts():
    assert [script_of(text) for text in ("water", "花", "قلب", "7 музыка", "☂")] == [
        "LATIN",
        "CJK",
        "ARABIC",
        "CYRILLIC",
        "",
    ]


@pytest.mark.parametrize("block", [3, 100])
def test_neighbours_by_cosine_of_seen_tags(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", block)
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((20, 8)).astype(np.float32) * rng.uniform(0.1, 10, (20, 1)).astype(np.float32)
    rows[7] = 0
    counts = np.ones(20, int)
    counts[[2, 11]] = 0
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit[5]
    cosines[[2, 11, 5]] = -np.inf
    expected = np.argsort(-cosines)[:6]
    ids, found = nearest_tags(LiveRows(rows), counts, 5, 6)
    assert ids.tolist() == expected.tolist()
    assert found == pytest.approx(cosines[expected], abs=1e-5)


def test_neighbours_fewer_than_asked_for():
    assert nearest_tags(LiveRows(np.eye(4, dtype=np.float32)), np.array([1, 1, 0, 0]), 0, 5)[0].tolist() == [1]
    assert nearest_tags(LiveRows(np.eye(4, dtype=np.float32)), np.array([1, 0, 0, 0]), 0, 5)[0].tolist() == []


def test_an_index_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    place = tmp_path / "index"
    ImageIndex(np.array([4]), np.ones((1, 3), np.float32), "before", step=1).save(place)

    def full(path, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hybrid.image_index.np.save", full)
    with pytest.raises(RunError, match="No space left"):
        ImageIndex(np.array([5]), np.ones((1, 3), np.float32), "after", step=2).save(place)
    assert ImageIndex.load(place).fingerprint == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_index_round_trip_and_damage(tmp_path):
    index = ImageIndex(np.array([4, 2]), np.ones((2, 3), np.float32), "abc", step=9)
    index.save(tmp_path)
    loaded = ImageIndex.load(tmp_path)
    assert loaded.items_I.tolist() == [4, 2] and (loaded.fingerprint, loaded.step) == ("abc", 9)
    assert np.array_equal(loaded.features_ID, index.features_ID)
    whole = (tmp_path / "features.npy").read_bytes()
    (tmp_path / "features.npy").write_bytes(whole[:-5])
    with pytest.raises(RunError, match="no usable index"):
        ImageIndex.load(tmp_path)
    (tmp_path / "features.npy").write_bytes(whole)
    np.save(tmp_path / "items.npy", np.arange(3))
    with pytest.raises(RunError, match="3 items"):
        ImageIndex.load(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(RunError, match=r"no index of images .*hybrid evaluate"):
        ImageIndex.load(tmp_path)


@pytest.mark.parametrize("k", [0, -1, 2.5, "3"])
def test_a_number_of_answers_that_is_none_is_refused(album, index, rows, k):
    with pytest.raises(ConfigError, match="k = "):
        search("water", k, pictures=album, index=index, rows=rows)
    with pytest.raises(ConfigError, match="k = "):
        nearest_tags(rows, np.ones(len(TAGS)), 0, k)


def test_a_query_that_is_no_text_is_refused(album, index, rows):
    with pytest.raises(DataError, match="the query is a NoneType; expected text"):
        search(None, 3, pictures=album, index=index, rows=rows)
