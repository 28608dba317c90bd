"""The shipped scorers, profiles, and scorers of the user's own."""

import dataclasses

import pytest

import mmcorpus.filters
from mmcorpus.filters import PROFILES, RULES, SCORERS, Scorer, load_scorer_class
from mmcorpus.filters.scorer import INPUTS


def needs_nothing(kind: type[Scorer]) -> bool:
    """Whether it has a default for every parameter; those without (a model's name) are tested in files of their own."""
    missing = dataclasses.MISSING
    return all(
        field.default is not missing or field.default_factory is not missing for field in dataclasses.fields(kind)
    )


@pytest.mark.parametrize("name", [name for name, kind in SCORERS.items() if needs_nothing(kind)])
def test_scorers_keep_their_contract(name: str) -> None:
    scorer = SCORERS[name]()
    assert scorer.name == name
    assert set(scorer.inputs) <= set(INPUTS)
    assert not {"uid", "reason"} & set(scorer.schema().names)
    if name in RULES:  # a model's revision is asked of where it lies
        assert scorer.fingerprint() == SCORERS[name]().fingerprint()
        assert len(scorer.fingerprint()) == 16
    with pytest.raises(dataclasses.FrozenInstanceError):
        scorer.languages = ("de",)  # type: ignore[attr-defined]


def test_profiles_have_the_published_numbers() -> None:
    assert PROFILES["datacomp_basic"].clauses == (
        'language.code == "en"',
        "caption.words > 2",
        "caption.characters > 5",
        "image.min_side >= 200",
        "image.aspect_ratio <= 3.0",
    )
    assert "image.max_side <= 10000" in PROFILES["mm1_images"].clauses
    assert "image.min_side >= 150" in PROFILES["obelics_images"].clauses
    assert all("20" in profile.source for profile in PROFILES.values())


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_read_columns_that_their_scorers_give(name: str) -> None:
    from mmcorpus.curation.selection.expression import columns_of

    profile = PROFILES[name]
    assert profile.name == name
    given = {f"{one}.{column}" for one in profile.scorers for column in SCORERS[one]().schema().names}
    named = {column for clause in profile.clauses for column in columns_of(clause)}
    assert named <= given
    assert {column.partition(".")[0] for column in named} == set(profile.scorers)


def test_a_scorer_of_ones_own_is_found_by_module_and_class() -> None:
    assert load_scorer_class("image") is SCORERS["image"]
    assert load_scorer_class("mmcorpus.filters.url:UrlScorer") is SCORERS["url"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imgae", "there is no scorer 'imgae'; there are c4, caption, .*image"),
        ("no_such_package.x:Y", "cannot be imported: No module named"),
        ("mmcorpus.filters.url:Nothing", "module 'mmcorpus.filters.url' has no 'Nothing'"),
        ("mmcorpus.filters.url:url_path", "not a subclass of filters.Scorer"),
        (":X", "cannot be imported"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_scorer_class(name)


def test_a_class_without_its_variables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nameless(Scorer):
        pass

    monkeypatch.setattr(mmcorpus.filters.url, "Nameless", Nameless, raising=False)
    with pytest.raises(ValueError, match="does not set the class variable 'name'"):
        load_scorer_class("mmcorpus.filters.url:Nameless")
