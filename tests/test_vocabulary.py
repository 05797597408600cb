"""Tags have one spelling, ids by descending count, and a file that says when it is damaged."""

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data.build_view import TagRule, choose_tags
from hybrid.data.vocabulary import HEADER, TagVocabulary, normalise_tag
from workers.errors import DataError, RunError


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("  Deep\tSEA ", "deep sea"),
        ("Ｆｕｌｌ", "full"),
        ("ﬁsh", "fish"),
        ("Straße", "strasse"),
        ("a\u00a0\u2028b", "a b"),
        ("İ", "i̇"),
        ("né", "né"),
        ("猫", "猫"),
        ("\ud800x", "x"),
        ("\n", ""),
        ("", ""),
    ],
)
def test_spelling(text: str, tag: str) -> None:
    assert normalise_tag(text) == tag


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    tag = normalise_tag(text)
    assert normalise_tag(tag) == tag
    assert "\t" not in tag and "\n" not in tag and "\r" not in tag
    tag.encode("utf-8")


@given(st.dictionaries(st.text().map(normalise_tag).filter(bool), st.integers(0, 2**62)))
def test_saved_and_loaded(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "tags.tsv"
    TagVocabulary(list(counts), np.array(list(counts.values()), dtype=np.int64)).save(path)
    loaded = TagVocabulary.load(path)
    assert loaded.tags == list(counts)
    assert loaded.counts.tolist() == list(counts.values())
    assert all(loaded.id_of(f" {tag.upper() if tag.isascii() else tag} ") == i for i, tag in enumerate(counts))


def test_unknown_tag_has_no_id() -> None:
    assert TagVocabulary(["cat"], np.array([3])).id_of("dog") is None


def test_a_file_cut_short_anywhere_is_refused(tmp_path) -> None:
    path = tmp_path / "tags.tsv"
    TagVocabulary(["cat", "hund", "猫"], np.array([30, 2, 1])).save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"tags\.tsv"):
            TagVocabulary.load(path)


@pytest.mark.parametrize(
    "text", ["", "cat\n", f"{HEADER}x\n", f"{HEADER}1\ncat\n", f"{HEADER}1\n1\tcat\tdog\n", f"{HEADER}1\nx\tcat\n"]
)
def test_other_files_are_refused(tmp_path, text: str) -> None:
    (tmp_path / "tags.tsv").write_text(text)
    with pytest.raises(DataError, match=r"tags\.tsv"):
        TagVocabulary.load(tmp_path / "tags.tsv")


def test_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.tsv"):
        TagVocabulary.load(tmp_path / "nowhere.tsv")


def test_counts_must_fit() -> None:
    with pytest.raises(DataError, match="2 tags"):
        TagVocabulary(["a", "b"], np.array([1]))


TRAIN_RAW = np.array([4, 4, 4, 1, 1, 3, 3, 0], dtype=np.int32)  # raw tags 2 and 5 occur outside training only


def test_ids_follow_descending_training_counts_then_text() -> None:
    id_of_raw, counts, dropped = choose_tags(TRAIN_RAW, 6, TagRule(min_count=1, max_tags=0))
    assert id_of_raw.tolist() == [3, 1, -1, 2, 0, -1]
    assert counts.tolist() == [3, 2, 2, 1]
    assert sum(dropped.values()) == dropped["tags not in the training split"] == 2


@pytest.mark.parametrize(("min_count", "max_tags", "kept"), [(2, 0, 3), (1, 2, 2), (2, 9, 3), (3, 1, 1), (9, 0, 0)])
def test_bounds_drop_and_count(min_count: int, max_tags: int, kept: int) -> None:
    id_of_raw, counts, dropped = choose_tags(TRAIN_RAW, 6, TagRule(min_count=min_count, max_tags=max_tags))
    assert len(counts) == kept == np.count_nonzero(id_of_raw >= 0)
    assert sum(dropped.values()) == 6 - kept


def test_a_vocabulary_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.tsv"
    TagVocabulary(["a", "b"], np.array([2, 1])).save(path)

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        TagVocabulary(["c"], np.array([1])).save(path)
    monkeypatch.undo()
    assert TagVocabulary.load(path).tags == ["a", "b"]
