import pytest
from builders import ROOT

from toxicity.core.errors import RequestError
from toxicity.hardware.kinds import KINDS, known_kind, short_name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_config_and_torch_build(kind):
    assert (ROOT / "accelerate_configs" / f"{kind}.yaml").is_file()
    assert "torch==" in (ROOT / "constraints" / f"{kind}.txt").read_text()


def test_no_constraint_is_of_an_unknown_kind():
    assert {path.stem for path in (ROOT / "constraints").iterdir()} == set(KINDS)


def test_an_unknown_name_lists_the_known_ones():
    assert known_kind("P100") == "p100"
    with pytest.raises(RequestError, match=f"unknown GPU `k80`; the known ones are {', '.join(KINDS)}. A100"):
        known_kind("k80")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("P10", "p100"), ("v-100", "v100"), ("hoper", "hopper"), ("blackwel", "blackwell")],
)
def test_an_unknown_name_gets_the_nearest_where_one_is_near(name, nearest):
    with pytest.raises(RequestError, match=f"unknown GPU `{name}`; .*, and the nearest is {nearest}"):
        known_kind(name)


@pytest.mark.parametrize("card", ["a100", "h100", "h200", "b200"])
def test_a_card_of_a_family_is_not_taken_for_another_card(card):
    with pytest.raises(RequestError, match="A100 and L4 are ampere, H100 and H200 hopper, B200 blackwell") as refusal:
        known_kind(card)
    assert "nearest" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("Tesla T4", "t4"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "h100 mig 1g.10gb+me"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Orin", "orin"),
        ("", "gpu"),
    ],
)
def test_short_names(name, label):
    assert short_name(name) == label
