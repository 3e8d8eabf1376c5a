import pytest

from toxicity.core.errors import RequestError
from toxicity.core.files import installed_file


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(RequestError, match=r"not installed: pip install no-such-package==1.0"):
        installed_file("no-such-package==1.0", "data.csv", "0" * 64)


def test_a_file_that_the_package_does_not_carry():
    with pytest.raises(RequestError, match=r"pytest/data.csv is not installed: pip install pytest==9"):
        installed_file("pytest==9", "pytest/data.csv", "0" * 64)


def test_a_file_of_other_content():
    with pytest.raises(RequestError, match=r"was altered: pip install --force-reinstall --no-deps pytest==9"):
        installed_file("pytest==9", "pytest/__init__.py", "0" * 64)
