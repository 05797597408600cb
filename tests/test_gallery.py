"""Galleries and contact sheets as files that stand alone."""

import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from album import TAGS, Album
from PIL import Image

from hybrid import contact_sheet, gallery
from hybrid.contact_sheet import BOX, drawable, font_file, write_html_sheet, write_png_sheet
from hybrid.curves import curves_svg, smoothed
from hybrid.evaluation import MEASURES
from hybrid.gallery import choose_queries, write_gallery
from hybrid.image_index import ImageIndex
from hybrid.ranking import LiveRows
from hybrid.search import search
from hybrid.tables import metrics_table, search_table, tags_table
from launch.config import RunConfig, TrainConfig
from workers.errors import RunError

VOID = {"meta", "img", "br", "path", "use", "rect"}


class Outline(HTMLParser):
    """Checks that tags close in order, and collects what a page refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.tags, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def album():
    return Album()


@pytest.fixture
def index(album):
    features = np.random.default_rng(2).standard_normal((len(album.test_items), 8)).astype(np.float32)
    return ImageIndex(album.test_items, features, "album", 1)


@pytest.fixture
def rows():
    return LiveRows(np.random.default_rng(0).standard_normal((len(TAGS), 8)).astype(np.float32))


@pytest.fixture
def measured():
    table = dict.fromkeys(MEASURES, 0.5) | {"distinct tags": 1234}
    facts = {"items": 24, "mAP tags": 9, "mAP bounds": [2, 50], "temperature": 1.3, "score": "lift"}
    return {**table, **facts, "popularity": dict(table)}


def lines(num_steps=300):
    train = [{"step": s, "kind": "train", "loss": 5 / (s + 1)} for s in range(1, num_steps)]
    valid = [{"step": s, "kind": "valid", "P@5": s / 400, "mAP": s / 900} for s in range(50, num_steps, 50)]
    return [*train, *valid, {"step": 7, "kind": "train", "loss": None}]


def test_gallery_is_one_whole_file_that_refers_to_nothing(tmp_path, album, index, rows, measured):
    path = tmp_path / "gallery.html"
    config = RunConfig(train=TrainConfig(minutes=8))
    write_gallery(
        path,
        name="my <run>",
        config=config,
        pictures=album,
        index=index,
        rows=rows,
        tables={"test": measured},
        lines=lines(),
    )
    text = path.read_text()
    outline = Outline(text)
    assert [p.name for p in tmp_path.iterdir()] == ["gallery.html"]
    assert "script" not in outline.tags
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in outline.sources)
    assert "http" not in text.replace("http://www.w3.org/", "").replace("http-equiv", "") and "url(h" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    shown = " ".join(outline.text)
    for wanted in (
        "my <run>",
        "12 tags",
        "8 minutes",
        "Popularity",
        "nDCG@5",
        "CC0 <nobody>",
        "Training loss",
        "музыка",
    ):
        assert wanted in shown
    assert "<b>bold" not in text and "picture 1 <i>" not in text


@pytest.mark.parametrize("splits", [("test",), ("valid", "test")], ids=str)
def test_a_temperature_is_called_chosen_only_where_validation_pictures_chose_it(
    tmp_path, album, index, rows, measured, splits
):
    path, tables = tmp_path / "gallery.html", dict.fromkeys(splits, measured)
    about = {"name": "run", "config": RunConfig(), "pictures": album, "index": index, "rows": rows, "lines": lines()}
    write_gallery(path, tables=tables, **about)
    shown = " ".join(Outline(path.read_text()).text)
    assert shown.count("at temperature 1.3") == 1 and "Held-out pictures: valid" not in shown
    assert ("at temperature 1.3, chosen on validation pictures." in shown) == ("valid" in splits)


def test_hits_are_marked_by_more_than_colour(tmp_path, album, index, rows):
    result = search("blue", 24, pictures=album, index=index, rows=rows)
    write_html_sheet(tmp_path / "sheet.html", result, album, "run")
    text = (tmp_path / "sheet.html").read_text()
    Outline(text)
    num_true = sum(hit.is_true for hit in result.hits)
    assert 0 < num_true < 24
    assert text.count(">✓</span></div>") == num_true == text.count(", true of the query")
    assert text.count(", not true of the query") == 24 - num_true


def test_queries_follow_the_documented_rule(album, monkeypatch):
    items = np.arange(48)
    assert choose_queries(album, items)[:6] == ["हाथ", "花", "музыка", "water", "قلب", "고양이"]
    monkeypatch.setattr(gallery, "PREFERRED", ())
    # Of 100 items, the last three tags lie on 10, 10 and 9: at most a tenth; the one before lies on 12.
    rare = ["sea lion", "<b>bold</b>", "flower"]
    assert choose_queries(Album(100), np.arange(100))[:5] == [*rare, "고양이", "हाथ"]
    monkeypatch.setattr(gallery, "NUM_QUERIES", 3)
    assert choose_queries(Album(100), np.arange(100)) == rare
    monkeypatch.setattr(gallery, "LEAST_TRUE", 10)
    assert choose_queries(Album(100), np.arange(100)) == ["sea lion", "<b>bold</b>", "고양이"]


def test_a_few_frequent_tags_are_queries_but_none_that_is_always_true(album, monkeypatch):
    monkeypatch.setattr(gallery, "PREFERRED", ())
    album.item_tags = np.array([tag for item in range(48) for tag in (item % 3, 3)], np.int32)
    album.item_offsets = np.arange(0, 97, 2)
    assert choose_queries(album, np.arange(48)) == ["blue", "water", "drawing"]


def test_a_gallery_without_queries_says_so(tmp_path, album, index, rows, measured):
    album.item_tags, album.item_offsets = np.zeros(0, np.int32), np.zeros(49, np.int64)
    about = {"name": "run", "config": RunConfig(), "pictures": album, "index": index, "rows": rows, "lines": lines()}
    write_gallery(tmp_path / "gallery.html", tables={"test": measured}, **about)
    shown = " ".join(Outline((tmp_path / "gallery.html").read_text()).text)
    assert "No query is shown" in shown and "Of the variants" not in shown


def test_near_duplicate_queries_are_passed_over(album, monkeypatch):
    monkeypatch.setattr(gallery, "PREFERRED", ())
    twice = [tag for item in range(48) for tag in ([10, 11] if item % 12 == 0 else [0])]
    album.item_tags = np.array(twice, np.int32)
    album.item_offsets = np.cumsum([0] + [2 if item % 12 == 0 else 1 for item in range(48)])
    assert choose_queries(album, np.arange(48)) == ["<b>bold</b>", "drawing"]


@pytest.mark.parametrize("found", [[], [{"step": 1, "kind": "valid", "P@5": 0.5}]])
def test_no_losses_draw_nothing(found):
    assert curves_svg(found) == ""


def test_curves_take_their_colours_from_the_page():
    svg = curves_svg(lines())
    assert svg.startswith("<svg") and "var(--true)" in svg and "On validation images" in svg
    assert not any(f"#0{d}0{d}0{d}" in svg for d in range(1, 6))
    assert "On validation images" not in curves_svg([line for line in lines() if line["kind"] == "train"])
    assert curves_svg(lines(3)).startswith("<svg")


def test_measures_of_other_items_or_at_another_temperature_are_no_point_of_the_curve():
    valid = {"items": 256, "temperature": 1.0}
    curve = [line | valid if line["kind"] == "valid" else line for line in lines()]
    last = {"step": 299, "kind": "valid", "P@5": 0.9, "mAP": 0.5}
    for other in ({"items": 2000, "temperature": 1.0}, {"items": 256, "temperature": 1.7}):
        assert curves_svg([*curve, last | other]) == curves_svg(curve)
    assert curves_svg([*curve, last | valid]) != curves_svg(curve)


def test_negatives_are_drawn_where_their_number_changed():
    """A number that stands still, or runs from before it was logged, have no panel."""
    found = lines()
    assert "Negatives" not in curves_svg(found)
    still = [line | {"negatives": 1024} for line in found]
    assert "Negatives" not in curves_svg(still)
    changed = [line | {"negatives": 64 * (1 + number)} for number, line in enumerate(found)]
    assert "Negatives" in curves_svg(changed)


def test_smoothing_is_a_running_mean():
    values = np.random.default_rng(0).random(120)
    assert smoothed(values) == pytest.approx([values[max(0, i - 1) : i + 1].mean() for i in range(120)])
    assert smoothed(values[:5]) == pytest.approx(values[:5])


def test_png_sheet_has_all_tiles(tmp_path, album, index, rows):
    for query, k in (("water", 24), ("花", 3), ("nothing like it", 3)):
        result = search(query, k, pictures=album, index=index, rows=rows)
        write_png_sheet(tmp_path / "sheet.png", result, album)
        with Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())) as image:
            image.load()
            assert image.width == 5 * 184 + 24 and image.height > 100


def test_letters_without_a_font_become_boxes(monkeypatch):
    monkeypatch.setattr(contact_sheet, "_installed_fonts", lambda: ())
    font_file.cache_clear()
    assert font_file("water, قلب, музыка, ✓") == contact_sheet.DEFAULT_FONT
    assert font_file("花") is None
    assert drawable("a 花") == f"a {BOX}"
    font_file.cache_clear()


def test_sheets_into_a_missing_folder_are_a_typed_error(tmp_path, album, index, rows):
    result = search("water", 2, pictures=album, index=index, rows=rows)
    with pytest.raises(RunError, match=r"no/sheet\.png"):
        write_png_sheet(tmp_path / "no" / "sheet.png", result, album)


@pytest.mark.parametrize(("title", "are_shown"), [("038", False), ("a red cat", True)])
def test_names_of_files_have_a_column_of_their_own_only_beside_titles(album, index, rows, title, are_shown):
    """A narrow terminal has no room for `038` beside `cats/038.png`."""
    from rich.console import Console

    result = search("water", 3, pictures=album, index=index, rows=rows)
    hits = tuple(replace(hit, name="cats/038.png", title=title) for hit in result.hits)
    console = Console(file=io.StringIO(), width=80)
    console.print(search_table(replace(result, hits=hits)))
    text = console.file.getvalue()
    assert "cats/038.png" in text and ("┃ name" in text) is are_shown
    assert (title in text.replace("cats/038.png", "")) is are_shown


def test_terminal_tables_show_markup_as_text(album, index, rows, measured):
    from rich.console import Console

    from hybrid.neighbours import ScoredTag

    console = Console(file=io.StringIO(), width=140)
    console.print(metrics_table(measured, "test"))
    console.print(search_table(search("water", 3, pictures=album, index=index, rows=rows)))
    console.print(search_table(search("watr", 3, pictures=album, index=index, rows=rows)))
    console.print(tags_table([ScoredTag("[red]x[/red]", 3, 0.5, 1000)], "near [bold]x", "cosine"))
    text = console.file.getvalue()
    for wanted in (
        "1,234",
        "P@5",
        "ranked by lift",
        "folder/",
        "did you mean water",
        "[red]x[/red]",
        "near [bold]x",
        "1,000",
    ):
        assert wanted in text
