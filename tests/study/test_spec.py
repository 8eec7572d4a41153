"""A study's TOML: what is right is understood, what is wrong is said all at once, in place."""

import tomllib
from types import SimpleNamespace

import pytest

from vcbench.errors import MethodError, SpecError
from vcbench.study import entries
from vcbench.study.locate import locate
from vcbench.study.spec import read_spec

BOTH = ("ml", "reml")
METHODS = {
    name: SimpleNamespace(criteria=criteria, kind=kind, options={"max_iter": int, "tol": float})
    for name, criteria, kind in (
        ("ai", BOTH, "solver"),
        ("em", BOTH, "solver"),
        ("px-em", BOTH, "solver"),
        ("em-simplified", ("ml",), "solver"),
        ("newton", BOTH, "solver"),
        ("moments", (), "moments"),
        ("nuts", BOTH, "bayes"),
    )
}
HEAD = 'title = "T"\nquestion = "Q?"\nseed = 1\nreplicates = 10\n'
DATA = '[[data]]\ngenerator = "one_way"\n'


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small registry, so that these tests speak of reading only."""

    def check(name: str, criterion: str) -> None:
        if criterion not in METHODS[name].criteria:
            raise MethodError(f"`{name}` does not exist under {criterion}")

    monkeypatch.setattr(entries, "registered_methods", lambda: METHODS)
    monkeypatch.setattr(entries, "check_method", check)


def _problems(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(SpecError) as raised:
        read_spec(text, "bench.toml")
    return list(raised.value.problems)


def test_grid__product_within_an_entry_union_across_entries() -> None:
    text = 'methods = ["ai"]\n' + HEAD + (
        '[[data]]\ngenerator = "one_way"\nn_groups = [10, 20]\nicc = [0.0, 0.1, 0.5]\n'
        '[[data]]\ngenerator = "variance_components"\nq = [[5, 6], [50, 60]]\nn = 100\n'
        '[[data]]\nname = "fixed"\ngenerator = "random_slope"\ntimes = [0, 1, 2]\n'
    )  # fmt: skip
    spec = read_spec(text, "bench.toml")
    assert [c.id for c in spec.conditions] == [f"{i:03d}" for i in range(9)]
    assert [(c.factors["n_groups"], c.factors["icc"]) for c in spec.conditions[:6]] == [
        (10, 0.0), (10, 0.1), (10, 0.5), (20, 0.0), (20, 0.1), (20, 0.5)]  # fmt: skip
    assert [c.factors for c in spec.conditions[6:]] == [
        {"data": "variance_components", "q": "[5,6]"},
        {"data": "variance_components", "q": "[50,60]"},
        {"data": "fixed"},
    ]
    assert spec.conditions[7].generator.q == [50, 60]
    assert spec.conditions[8].generator.times == [0.0, 1.0, 2.0]


def test_real__data_of_cards() -> None:
    text = 'methods = ["ai"]\n' + HEAD + '[[data]]\ncard = ["random_slope", "one_way:boundary"]\nreal = true\n'
    spec = read_spec(text, "bench.toml")
    assert [(c.card, c.real, c.factors) for c in spec.conditions] == [
        ("random_slope", True, {"data": "random_slope"}),
        ("one_way:boundary", True, {"data": "one_way:boundary"}),
    ]
    assert spec.replicates(spec.conditions[0], spec.methods[0]) == 1


def test_methods__criterion_is_resolved_and_options_kept() -> None:
    text = HEAD + 'criterion = "ml"\n' + DATA + "replicates = 7\n" + (
        '[[methods]]\nname = "em"\nmax_iter = 50\n'
        '[[methods]]\nname = "em"\ncriterion = "reml"\nlabel = "em, reml"\n'
        '[[methods]]\nname = "moments"\n'
        '[[methods]]\nname = "nuts"\nreplicates = 4\ndata = "one_way"\n'
    )  # fmt: skip
    spec = read_spec(text, "bench.toml")
    assert [(m.label, m.criterion) for m in spec.methods] == [
        ("em", "ml"), ("em, reml", "reml"), ("moments", None), ("nuts", "ml")]  # fmt: skip
    assert spec.methods[0].options == {"max_iter": 50}
    condition = spec.conditions[0]
    assert [spec.replicates(condition, m) for m in spec.methods] == [7, 7, 7, 4]
    assert [spec.replicates(condition, m, 2) for m in spec.methods] == [2, 2, 2, 2]


def test_hash__is_of_what_determines_rows() -> None:
    base = HEAD + 'methods = ["ai"]\n' + DATA
    one = read_spec(base, "a.toml").spec_hash
    assert (
        read_spec(base.replace('"T"', '"Other"').replace("replicates = 10", "replicates = 20"), "b.toml").spec_hash
        == one
    )
    for change in (("seed = 1", "seed = 2"), ('"ai"', '"em"'), ('"one_way"', '"one_way"\nicc = 0.5'),
                   ("seed = 1", "seed = 1\nlevel = 0.9"), ("seed = 1", "seed = 1\nblock_size = 7")):  # fmt: skip
        assert read_spec(base.replace(*change), "a.toml").spec_hash != one


def test_seeds__adding_a_condition_or_method_moves_no_other() -> None:
    small = read_spec(HEAD + 'methods = ["ai"]\n[[data]]\ngenerator = "one_way"\nicc = [0.5]\n', "a.toml")
    large = read_spec(HEAD + 'methods = ["em", "ai"]\n[[data]]\ngenerator = "one_way"\nicc = [0.1, 0.5]\n', "a.toml")
    assert small.conditions[0].key == large.conditions[1].key
    assert small.conditions[0].id != large.conditions[1].id


def test_problems__all_at_once_in_file_order_with_places() -> None:
    """The mock-up of UX.md, with every kind of mistake at the place it names."""
    text = """question = "Which?"
replicates = "lots"
sed = 1

[[data]]
generator = "one_way"
n_groups = [10, 1]   # one group
icc = [0.0, 0.5]

[[methods]]
name = "ai-reml"

[[methods]]
name = "em"
maxiter = 10
criterion = "remm"

[[acceptance]]
measure = "bais"
tolerance = -1
"""
    found = _problems(text)
    assert [(line, column) for line, column, _ in found] == [
        (1, 1), (1, 1), (2, 14), (3, 1), (7, 17), (11, 8), (15, 1), (16, 13), (19, 11), (20, 13)]  # fmt: skip
    said = [text for _, _, text in found]
    assert said[:2] == ["`title` is missing", "`seed` is missing"]
    assert said[2] == '`replicates` must be a whole number, not the text "lots"'
    assert said[3] == "unknown key `sed`. Did you mean `seed`?"
    assert said[4].startswith("`data[0].n_groups[1]` must be at least 2, not 1")
    assert said[5] == "unknown method `ai-reml`. Did you mean `ai`?"
    assert said[6] == "unknown key `maxiter` in method `em`. Did you mean `max_iter`?"
    assert said[7].endswith("Did you mean `reml`?")
    assert "Did you mean `bias`?" in said[8]
    with pytest.raises(SpecError, match="has 10 problems") as raised:
        read_spec(text, "bench.toml")
    message = str(raised.value)
    assert "   7 │ n_groups = [10, 1]   # one group\n     │                 ^\n" in message
    assert "e.g.  seed = 20261121" in message
    assert message.endswith("Nothing was run.")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + 'methods = ["ai"]\ndata = []\n', 6, "at least 1 items"),
        (HEAD + 'methods = ["ai", "ai"]\n' + DATA, 5, "two methods are called `ai`"),
        (HEAD + 'methods = ["ai", 3]\n' + DATA, 5, "must be a name or a table, not 3"),
        (HEAD + 'methods = ["ai"]\n[[data]]\nn = 5\n', 6, "neither a `generator` nor a `card`"),
        (HEAD + 'methods = ["ai"]\n[[data]]\ngenerator = "oneway"\n', 7, "Did you mean `one_way`?"),
        (HEAD + 'methods = ["ai"]\n' + DATA + "groups = 5\n", 8, "unknown key `groups`. Did you mean `n_groups`?"),
        (HEAD + 'methods = ["ai"]\n' + DATA + "n_groups = []\n", 8, "empty list"),
        (HEAD + 'methods = ["ai"]\n' + DATA + DATA, 8, "comes twice"),
        (HEAD + 'methods = ["ai"]\n' + DATA + "replicates = 0\n", 8, "at least 1, not 0"),
        (HEAD + 'methods = ["ai"]\n' + DATA + "icc = 0.5\nsigma2 = 2.0\n", 6, "say the same thing twice"),
        (HEAD + 'methods = ["ai"]\n[[data]]\ncard = "random_slop"\nreal = true\n', 7, "Did you mean `random_slope`?"),
        (HEAD + 'methods = ["ai"]\n[[data]]\nreal = true\n', 6, "needs a `card`"),
        (
            HEAD + 'methods = ["ai"]\n[[data]]\ncard = "one_way"\ntheta = { "batch:var" = 1.0 }\n',
            8,
            "`batch:var`; the card",
        ),
        (HEAD + DATA + '[[methods]]\nname = "em-simplified"\ncriterion = "reml"\n', 9, "does not exist under reml"),
        (HEAD + DATA + '[[methods]]\nname = "em"\ntol = "small"\n', 9, "`tol` of `em` must be float"),
        (HEAD + DATA + '[[methods]]\nname = "em"\ndata = "two_way"\n', 9, "no data entry of this study"),
        (HEAD + 'methods = ["ai"]\nreference = "a"\n' + DATA, 6, "no method of this study"),
        (
            HEAD + 'methods = ["ai"]\n' + DATA + '[[acceptance]]\nmeasure = "bias"\ntolerance = 1\nmethod = "e"\n',
            11,
            "`e`",
        ),
        (HEAD.replace("10", "0") + 'methods = ["ai"]\n' + DATA, 4, "`replicates` must be at least 1, not 0"),
        (HEAD.replace("10", "true") + 'methods = ["ai"]\n' + DATA, 4, "whole number, not true"),
        (HEAD.replace('"T"', '""') + 'methods = ["ai"]\n' + DATA, 1, "must not be empty"),
        ('title = "T\n', 1, "not valid TOML: Illegal character"),
        ("title = 1\ntitle = 2\n", 2, "not valid TOML: Cannot overwrite a value"),
        ("x = [1,\n", 2, "not valid TOML"),
    ],
)
def test_problems__each_is_found_at_its_line(text: str, line: int, said: str) -> None:
    found = _problems(text)
    assert len(found) == 1, found
    assert found[0][0] == line
    assert said in found[0][2]


@pytest.mark.parametrize("methods", ["7", "1.5", "true", '"ai"', "{ name = 'ai' }"])
def test_problems__methods_of_another_type_than_a_list_are_said_as_such(methods: str) -> None:
    with pytest.raises(SpecError, match="`methods`"):
        read_spec(f"methods = {methods}\n{HEAD}{DATA}", "bench.toml")


def test_locate__finds_what_tomllib_reads() -> None:
    """Every key and value, through comments, dotted keys, quotes, inline tables, nested and multi-line lists."""
    text = '''a = 1 # [x]
"b c".d = "x # y"  # z
e = [ [1, 2], # first
      ["]", '}'],
]
f = { g = 1, h = { i = [true, 2024-01-01] } }
k = """
two
"quoted\\"""" # end
[[t]]
u = 'é='
[t.sub]
v = -1.5e3
[[t]]
u = """"""
[w.x]
'''
    places, lines = locate(text), text.split("\n")

    def walk(value: object, path: tuple) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, (*path, i))
        else:
            span = places[path].value
            source = lines[span.line - 1][span.column - 1 : span.column - 1 + span.length]
            if "\n" in repr(value) or '"""' in source:
                assert source == '"""' or tomllib.loads(f"x = {source}")["x"] == value
            else:
                assert tomllib.loads(f"x = {source}")["x"] == value, path

    walk(tomllib.loads(text), ())
    key = places[("t", 1, "u")].key
    assert (key.line, key.column, key.length) == (15, 1, 1)
    assert places[("b c", "d")].key.length == len('"b c".d')


def test_words__estimands_and_mechanisms_are_no_part_of_the_hash_and_complete_the_methods_text() -> None:
    from vcbench.study.ademp import ademp, methods_text

    text = HEAD + 'methods = ["ai"]\n' + (
        '[[data]]\ngenerator = "model"\ndesign = { g = [5, 9], i = { count = 3 } }\nformula = "y ~ i + (1 | g)"\n'
        'theta = { "g:var((Intercept))" = 1.0, "residual:var" = 2.0 }\n'
    )  # fmt: skip
    plain = read_spec(text, "a.toml")
    words = (
        'mechanisms = ["Groups."]\nestimands = { "residual:var" = "The variance within groups.", share = "Of g." }\n'
    )
    derive = 'derive = ["share = g / total"]\n'
    said = read_spec(words + derive + text + 'about = "As few as in a pilot."\n', "a.toml")
    assert said.spec_hash == read_spec(derive + text, "a.toml").spec_hash != plain.spec_hash
    paragraphs = dict(ademp(said))
    assert "Groups. model: `y ~ i + (1 | g)`" in paragraphs["Data-generating mechanisms"]
    assert "g in [5, 9]: 2 conditions. As few as in a pilot." in paragraphs["Data-generating mechanisms"]
    assert "residual:var: The variance within groups." in paragraphs["Estimands"]
    assert "share = g / total" in paragraphs["Estimands"]
    assert "10 replicates a condition" in paragraphs["Performance measures"]
    assert methods_text(said).startswith("Aims. Q?")
    found = _problems(words.replace("residual:var", "residual:vra") + derive + text)
    assert [(line, column) for line, column, _ in found] == [(2, 15)]
    assert "Did you mean `residual:var`?" in found[0][2]


OLD = """title = "T"
question = "Q?"
seed = 7
replicates = 3
block_size = 2
methods = ["moments", { name = "ai", label = "profile", interval = "profile", data = "one_way" }]
[[data]]
generator = "one_way"
n_groups = [4, 6]
balance = 0.5
icc = 0.2
[[data]]
generator = "random_slope"
n_groups = 4
[[data]]
name = "redrawn"
generator = "variance_components"
n = 20
q = [3, 4]
redraw = true
[[data]]
generator = "snp"
n = 12
p = [20, 30]
n_causal = 3
[[data]]
card = "one_way"
theta = { "residual:var" = 2000.0 }
[[data]]
card = ["random_slope", "one_way"]
real = true
"""
DRAWN = {  # by condition: its key, and the first and the last response of replicate 1
    "000": ((3034783264, 530931628), -0.029224826007173466, -0.978039934013746),
    "001": ((630465259, 2628151062), -0.08764999567018936, -0.13321262525069671),
    "002": ((2738008352, 219331317), 249.59737549887825, 296.19487799583965),
    "003": ((389409416, 3993755461), -1.5189917757981206, 0.12824553529088956),
    "004": ((3621877495, 850005378), 1.2762472416854858, -0.4687756473114482),
    "005": ((2017277980, 3424164587), -0.2470523497688023, -1.4910291924246761),
    "006": ((3109939282, 1072214150), 1545.9466578063866, 1496.452947090844),
}


def test_golden__the_hash_and_the_data_of_earlier_specifications_do_not_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As vcbench of 22 November 2026, commit 9ffe2c8, made them: a change of these changes every stored study."""
    from vcbench.study.seeds import DESIGN, generator

    monkeypatch.undo()  # the registry as it is
    spec = read_spec(OLD, "old.toml")
    assert spec.spec_hash == "454e0524ee0f5629e712"
    for condition in spec.conditions[:7]:
        key, first, last = DRAWN[condition.id]
        assert condition.key == key
        made = condition.generator.build(generator(7, key, DESIGN))
        y = made.draw([generator(7, key, 1)])[:, 0]
        assert [y[0], y[-1]] == pytest.approx([first, last], rel=1e-9)
    assert [c.key for c in spec.conditions[7:]] == [(3492849826, 2777004189), (325903212, 2223367782)]
