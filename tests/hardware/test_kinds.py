import pytest
from builders import ROOT

from toxicity.core.errors import RequestError
from toxicity.hardware.kinds import KINDS, kind_of, known_kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_config_and_torch_build(kind):
    assert (ROOT / "accelerate_configs" / f"{kind}.yaml").is_file()
    assert "torch==" in (ROOT / "constraints" / f"{kind}.txt").read_text()


def test_no_constraint_is_of_an_unknown_kind():
    assert {path.stem for path in (ROOT / "constraints").iterdir()} == set(KINDS)


@pytest.mark.parametrize(
    ("device_name", "capability", "kind"),
    [
        ("AMD EPYC", None, "cpu"),
        ("Tesla P100-PCIE-16GB", "6.0", "p100"),
        ("Tesla V100-SXM2-32GB", "7.0", "v100"),
        ("NVIDIA TITAN V", "7.0", None),
        ("Tesla T4", "7.5", "t4"),
        ("NVIDIA GeForce RTX 2080 Ti", "7.5", None),
        ("NVIDIA A100 80GB PCIe", "8.0", "ampere"),
        ("NVIDIA H200", "9.0", "hopper"),
        ("Tesla K80", "3.7", None),
    ],
)
def test_kinds_of_devices(device_name, capability, kind):
    assert kind_of(device_name, capability) == kind


def test_an_unknown_name_lists_the_known_ones():
    assert known_kind("P100") == "p100"
    with pytest.raises(RequestError, match="unknown GPU `k80`; the known ones are cpu, p100, v100, t4, ampere, hopper"):
        known_kind("k80")


@pytest.mark.parametrize(("name", "nearest"), [("P10", "p100"), ("v-100", "v100"), ("hoper", "hopper")])
def test_an_unknown_name_gets_the_nearest_where_one_is_near(name, nearest):
    with pytest.raises(RequestError, match=f"unknown GPU `{name}`; .*, and the nearest is {nearest}"):
        known_kind(name)
