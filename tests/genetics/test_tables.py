"""Phenotype and covariate files: formats, joins, who is dropped and why, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import DataError
from vcbench.genetics.tables import join, read_table

SAMPLES = pd.DataFrame({"FID": list("fffgg"), "IID": list("abcde")})


def file(folder, text, name="x.phen"):
    path = folder / name
    path.write_text(text)
    return path


def test_headers__of_gcta_plink_and_plink2_are_known(tmp_path):
    bare = read_table(file(tmp_path, "f a 1.5 NA\nf b -9 2\n"))
    assert list(bare.values) == ["pheno1", "pheno2"]
    assert bare.values.to_numpy() == pytest.approx(np.array([[1.5, np.nan], [np.nan, 2]]), nan_ok=True)
    plink = read_table(file(tmp_path, "FID\tIID\theight\nf\ta\t-9.0\n"))
    assert plink.values["height"].tolist() == [-9.0]
    plink2 = read_table(file(tmp_path, "#IID height\na nan\n\nb .\n"))
    assert list(plink2.ids) == ["IID"]
    assert plink2.values["height"].isna().all()
    assert list(read_table(file(tmp_path, "#FID IID x y\nf a 1 2\n"), columns=["y"]).values) == ["y"]
    categories = read_table(file(tmp_path, "f a M -9\nf b F x\n"), "covar")
    assert list(categories.values) == ["covar1", "covar2"]
    assert categories.values["covar2"].isna().tolist() == [True, False]


def test_frames__mean_what_files_mean():
    frame = pd.DataFrame({"FID": ["f"], "IID": ["a"], "x": [-9], "y": [2.5]})
    assert read_table(frame).values.to_numpy() == pytest.approx(np.array([[np.nan, 2.5]]), nan_ok=True)
    by_index = read_table(pd.DataFrame({"x": ["1.5", "NA"]}, index=["a", "b"]))
    assert list(by_index.ids["IID"]) == ["a", "b"]
    assert by_index.values["x"].tolist()[0] == 1.5


def test_join__keeps_the_order_of_the_genotypes_and_says_who_is_dropped(tmp_path):
    phenotype = file(tmp_path, "g e 5 1\nf c 3 -9\nf a 1 NA\nf b NA NA\nz z 9 9\n")
    qcovar = file(tmp_path, "FID IID age\nf a 10\nf b 20\nf c 30\ng e 50\n", "q")
    covar = file(tmp_path, "f a M x\nf c F y\nf b M x\ng e F NA\ng d M x\n", "c")
    one = join(SAMPLES, phenotype, qcovar)
    assert list(one.samples["IID"]) == ["a", "c", "e"]
    assert one.rows.tolist() == [0, 2, 4]
    assert one.Y["pheno1"].tolist() == [1.0, 3.0, 5.0]
    assert one.Y["pheno2"].isna().tolist() == [True, True, False]
    assert one.X.to_dict("list") == {"(Intercept)": [1.0] * 3, "age": [10.0, 30.0, 50.0]}
    assert one.dropped.to_dict("list") == {"FID": ["f", "g"], "IID": ["b", "d"], "reason": ["no phenotype"] * 2}
    assert one.unmatched == {str(phenotype): 1, str(qcovar): 0}
    both = join(SAMPLES, phenotype, qcovar, covar)
    assert both.counts == {"no phenotype": 2, "covar missing": 1}
    assert both.X["covar1M"].tolist() == [1.0, 0.0]
    assert both.report().splitlines() == [
        "        5  samples with genotypes",
        "−       2  no phenotype",
        "−       1  covar missing",
        "        2  used",
        f"        1  in {phenotype} without genotypes",
        "        2  of the used lack `pheno2`",
    ]
    absent = join(SAMPLES, file(tmp_path, "f a 1\nf b 2\ng e 3\n"), file(tmp_path, "f a 1\ng e 2\n", "q"))
    assert absent.counts == {"no phenotype": 2, "not in the qcovar file": 1}


def test_join__of_numbers_as_categories_takes_the_lowest_as_reference():
    X = join(
        SAMPLES,
        pd.DataFrame({"x": [1, 2, 3, 4, 5]}, index=list("abcde")),
        covar=pd.DataFrame({"batch": ["10", "9", "9", "10", "11"]}, index=list("abcde")),
    ).X
    assert list(X) == ["(Intercept)", "batch10", "batch11"]
    assert X["batch10"].tolist() == [1, 0, 0, 1, 0]


def test_iid_alone__serves_where_it_is_unambiguous():
    table = pd.DataFrame({"IID": ["c", "a"], "x": [3.0, 1.0]})
    assert join(SAMPLES, table).Y["x"].tolist() == [1.0, 3.0]
    twice = SAMPLES.assign(IID=list("aacde"))
    with pytest.raises(DataError, match="IID a stands for several samples"):
        join(twice, table)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("f a 1\nf a 2\n", "phenotype", r"FID f, IID a comes twice \(1 repeated\)"),
        ("f a 1\nf b 1 2\n", "phenotype", "line 2 has 4 columns; 3 were expected"),
        ("FID IID h\nf a 1\nf b\n", "phenotype", "line 3 has 2 columns"),
        ("f a tall\n", "phenotype", "`tall` in column `pheno1` is no finite number.*covar file"),
        ("f a inf\n", "qcovar", "`inf` in column `qcovar1`"),
        ("f a\n", "covar", "has ids and no values"),
        ("", "phenotype", "is empty"),
        ("FID,IID,h\nf,a,1\n", "phenotype", "has commas between its columns; white space was expected"),
        ("FID height\nf 1\n", "phenotype", "its header begins with FID height"),
        ("FID IID h h\nf a 1 2\n", "phenotype", "column `h` comes twice"),
    ],
)
def test_files_that_cannot_be_meant__are_an_error(tmp_path, text, kind, message):
    with pytest.raises(DataError, match=message):
        read_table(file(tmp_path, text), kind)


def test_fam__has_its_phenotype_in_column_six(tmp_path):
    table = read_table(file(tmp_path, "f a 0 0 1 2.5\nf b 0 0 2 -9\n", "g.fam"))
    assert list(table.values) == ["phenotype"]
    assert table.values["phenotype"].to_numpy() == pytest.approx([2.5, np.nan], nan_ok=True)


def test_numbers_as_categories__are_refused_where_most_samples_have_their_own():
    ids = [f"s{i}" for i in range(60)]
    samples = pd.DataFrame({"FID": ids, "IID": ids})
    y = pd.DataFrame({"y": np.arange(60.0)}, index=ids)
    with pytest.raises(DataError, match=r"covar `bmi` has 60 different values among 60 samples.*qcovar"):
        join(samples, y, covar=pd.DataFrame({"bmi": np.linspace(20, 30, 60).astype(str)}, index=ids))
    assert join(samples, y, covar=pd.DataFrame({"batch": np.arange(60) % 30}, index=ids)).X.shape == (60, 30)


def test_joins_that_leave_nothing__say_why(tmp_path):
    with pytest.raises(
        DataError, match=r"shares no sample with the genotypes: it begins with FID q, IID a, they.*Their IIDs agree"
    ):
        join(SAMPLES, file(tmp_path, "q a 1\nq b 2\n"))
    with pytest.raises(DataError, match="shares no sample"):
        join(SAMPLES, file(tmp_path, "q x 1\n"))
    with pytest.raises(DataError, match=r"no sample is left of 5: 5 no phenotype\.$"):
        join(SAMPLES, file(tmp_path, "f a NA\nf b -9\n"))
    phenotype = file(tmp_path, "f a 1\nf b 2\n")
    with pytest.raises(DataError, match=r"3 no phenotype, 2 qcovar missing\. A covariate that is missing"):
        join(SAMPLES, phenotype, file(tmp_path, "f a NA\nf b NA\n", "q"))
    with pytest.raises(DataError, match=r"qcovar `qcovar1` is 3\.0 for all 2 samples"):
        join(SAMPLES, phenotype, file(tmp_path, "f a 3\nf b 3\n", "q"))
    with pytest.raises(DataError, match=r"no column `wieght`; it has weight.*Did you mean `weight`"):
        join(SAMPLES, file(tmp_path, "FID IID weight\nf a 1\n"), columns=["wieght"])
    with pytest.raises(DataError, match="there is no phenotype file"):
        join(SAMPLES, tmp_path / "none")
    with pytest.raises(DataError, match="is a list; a file or a data frame"):
        join(SAMPLES, [1, 2])
