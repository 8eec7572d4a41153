"""Cards: every one reads, its data are the published ones, and a wrong one is refused with each problem named."""

import hashlib
import tomllib

import pandas as pd
import pytest

from vcbench.cards import CHECKOUT, Card, find_cards, load_card
from vcbench.errors import CardError
from vcbench.published import half_unit

DATA = CHECKOUT / "models" / "data"
INDEX = tomllib.loads((DATA / "INDEX.toml").read_text(encoding="utf-8"))

GOOD = """
title = "A card"
description = "For tests."
formula = "y ~ 1 + (1 | g)"
[data]
file = "y.csv"
citation = "nobody"
"""


def all_cards() -> list[str]:
    return [name for stem in find_cards() for name in (stem, *load_card(stem).variants)]


def write_card(folder, text: str) -> str:
    (folder / "data").mkdir()
    (folder / "data" / "y.csv").write_text("y,g\n1,a\n2,a\n3,b\n5,b\n")
    path = folder / "card.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(INDEX))
def test_data__is_the_file_that_was_taken(name):
    said = INDEX[name]
    path = DATA / f"{name}.csv"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said["sha256"]
    frame = pd.read_csv(path)
    assert list(frame.columns) == said["columns"]
    assert len(frame) == said["rows"]


def test_data__every_file_is_indexed():
    assert sorted(path.stem for path in DATA.glob("*.csv")) == sorted(INDEX)


def test_cards__the_five_nouns_are_there():
    assert set(find_cards()) >= {"one_way", "random_slope", "rat_weight", "snp_heritability", "three_components"}


@pytest.mark.parametrize("name", all_cards())
def test_card__reads_whole(name):
    card = load_card(name)
    assert isinstance(card, Card)
    assert card.name == name
    assert card.simulated == (card.formula is None)


def test_card__a_path_reads_as_its_name_does():
    by_path = load_card(CHECKOUT / "models" / "one_way.toml")
    by_name = load_card("one_way")
    assert (by_path.name, by_path.published) == (by_name.name, by_name.published)


def test_card__cards_are_found_without_a_working_directory_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_card("one_way").data().shape == (30, 2)


def test_card__rows_and_columns_are_those_asked_for(tmp_path):
    text = GOOD.replace("[data]", "[data]\ncolumns = { y2 = 'y ** 2' }\nrows = \"g == 'b'\"")
    frame = load_card(write_card(tmp_path, text)).data()
    assert frame.to_dict("list") == {"y": [3, 5], "g": ["b", "b"], "y2": [9, 25]}


def test_variant__changes_what_it_names_and_keeps_the_rest():
    card, boundary = load_card("one_way"), load_card("one_way:boundary")
    assert boundary.formula == card.formula
    assert boundary.data_source.file == "dyestuff2.csv"
    assert boundary.published != card.published
    assert card.variants == ("one_way:boundary",)


def test_variant__a_source_of_its_own_takes_the_place_of_the_cards(tmp_path):
    text = GOOD + "[variant.drawn.data]\nshared = 'z.csv'\nrows = 'y > 0'\n"
    source = load_card(write_card(tmp_path, text) + ":drawn").data_source
    assert (source.file, source.shared, source.rows, source.citation) == (None, "z.csv", "y > 0", "nobody")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one_wya", ["unknown card `one_wya`", "Choose from", "Did you mean `one_way`?"]),
        ("one_way:bundary", ["no variant `bundary`", "`one_way:boundary`", "Did you mean `boundary`?"]),
        ("nowhere.toml", ["no card file nowhere.toml"]),
    ],
)
def test_card__an_unknown_name_is_refused_with_the_nearest(name, words):
    with pytest.raises(CardError) as caught:
        load_card(name)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'title = "A card"',
            'titel = "A card"',
            ["2 problems", "`title` is missing", "`titel`. Did you mean `title`?"],
        ),
        ('file = "y.csv"', 'fiel = "y.csv"', ["`data.fiel`. Did you mean `file`?"]),
        ('file = "y.csv"', 'file = "y.csv"\nshared = "z.csv"', ["exactly one of", "not 2"]),
        ("formula = ", "formulae = ", ["Did you mean `formula`?"]),
        ("[data]", 'criterion = "mle"\n[data]', ["`criterion`", "'ml' or 'reml'", "not 'mle'"]),
        ("[data]", 'name = "x"\n[data]', ["`name`", "taken from the file"]),
        ("[data]", "[data", ["not valid TOML"]),
    ],
)
def test_card__a_malformed_card_names_each_problem(tmp_path, old, new, words):
    assert old in GOOD
    with pytest.raises(CardError) as caught:
        load_card(write_card(tmp_path, GOOD.replace(old, new)))
    assert [word for word in words if word not in str(caught.value)] == []


def test_card__an_expression_that_fails_is_said(tmp_path):
    path = write_card(tmp_path, GOOD.replace("[data]", "[data]\ncolumns = { y2 = 'yy ** 2' }"))
    with pytest.raises(CardError, match=r"'yy' is not defined.*The data have the columns y, g"):
        load_card(path).data()


def test_card__absent_shared_data_say_how_to_provide_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VCBENCH_DATA", str(tmp_path))
    path = write_card(tmp_path, GOOD.replace('file = "y.csv"', 'shared = "no_such_file.csv"'))
    with pytest.raises(CardError, match="VCBENCH_DATA"):
        load_card(path).data()
    (tmp_path / "no_such_file.csv").write_text("y,g\n1,a\n2,b\n")
    assert len(load_card(path).data()) == 2


@pytest.mark.parametrize(
    ("text", "half"),
    [("1.50", 0.0051), ("-12", 0.51), ("0.2012885", 5.1e-8), ("1.2e3", 51.0), ("2.5e-3", 5.1e-5)],
)
def test_half_unit__is_half_of_the_last_printed_digit(text, half):
    assert half_unit(text) == pytest.approx(half, rel=1e-9)
