"""Cards: every one reads, its data are the published ones, and a wrong one is refused with each problem named."""

import hashlib
import tomllib

import numpy as np
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
    (folder / "data").mkdir(parents=True)
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


def test_cards__each_has_its_hand_written_model_beside_it():
    found = find_cards()
    assert set(found) >= {"one_way", "random_slope", "rat_weight", "snp_heritability", "three_components"}
    assert [stem for stem, path in found.items() if not path.with_suffix(".py").is_file()] == []


@pytest.mark.parametrize("name", all_cards())
def test_card__of_real_data_has_published_answers(name):
    card = load_card(name)
    assert card.simulated or card.published


def test_cards__are_all_in_the_table_of_their_readme():
    table = (CHECKOUT / "models" / "README.md").read_text(encoding="utf-8")
    assert [stem for stem in find_cards() if f"[`{stem}`]({stem}.toml)" not in table] == []


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
    other = "[variant.other.data]\nshared = 'z.csv'\nrows = 'y > 0'\ncitation = 'somebody'\n"
    path = write_card(tmp_path, GOOD.replace("[data]", "[data]\ncolumns = { y2 = 'y ** 2' }") + other)
    source = load_card(path + ":other").data_source
    assert (source.file, source.shared, source.columns, source.rows) == (None, "z.csv", {}, "y > 0")
    with pytest.raises(CardError, match=r"`data.citation` is missing"):
        load_card(write_card(tmp_path / "b", GOOD + other.replace("citation", "#")) + ":other")


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
        ("[data]", "[pedigree.g]\nfile = 'p.csv'\nsrie = 'father'\n[data]", ["`pedigree.g.srie`", "mean `sire`?"]),
        ("[data]", "[pedigree.g]\nid = 'animal'\n[data]", ["exactly one of `file` and `shared`", "not 0"]),
        ("[data]", "cov = { g = 'diag()' }\n[pedigree.g]\nfile = 'p.csv'\n[data]", ["both a `cov` and a `pedigree`"]),
    ],
)
def test_card__a_malformed_card_names_each_problem(tmp_path, old, new, words):
    assert old in GOOD
    with pytest.raises(CardError) as caught:
        load_card(write_card(tmp_path, GOOD.replace(old, new)))
    assert [word for word in words if word not in str(caught.value)] == []


PEDIGREE = """
formula = {formula}
title = "Four animals"
description = "For tests."
[data]
file = "y.csv"
citation = "nobody"
columns = {{ z = "y ** 2" }}
[pedigree.g]
file = "p.csv"
sire = "father"
"""


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ('"y ~ 1 + (1 | g)"', ["g:var", "residual:var"]),
        ('["y ~ 1 + (1 | g)", "z ~ 1 + (1 | g)"]', ["g:var(y)", "g:cov(y,z)", "g:var(z)", "residual:var(y)"]),
    ],
)
def test_card__a_pedigree_is_the_covariance_of_its_animals(tmp_path, formula, names):
    path = write_card(tmp_path, PEDIGREE.format(formula=formula))
    with pytest.raises(CardError, match=r"`data/p\.csv` beside card\.toml, which is absent"):
        load_card(path).model()
    (tmp_path / "data" / "p.csv").write_text("id,father,dam\na,,\nb,a,\n")
    model = load_card(path).model()
    assert list(model.theta_names)[: len(names)] == names
    F = model.components[0].factors()[0][:4]  # ZAZᵀ = FFᵀ of the first trait, two rows an animal
    np.testing.assert_allclose(F @ F.T, np.kron([[1.0, 0.5], [0.5, 1.0]], np.ones((2, 2))))


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
