"""The one thing `pyproject.toml` cannot say: the folder recipes/ is packed as bigs_cli/recipe/shipped/."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["bigs_cli", "bigs_cli.*"]), "bigs_cli.recipe.shipped"],
    package_dir={"bigs_cli.recipe.shipped": "recipes"},
    package_data={"bigs_cli.recipe.shipped": ["*/*.yaml"]},
)
