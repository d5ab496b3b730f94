"""The one thing `pyproject.toml` cannot say: the folder recipes/ is packed as bigs_cli/recipe/shipped/."""

from setuptools import find_packages, setup

SHIPPED, KINDS = "bigs_cli.recipe.shipped", ("pretrain", "finetune")

setup(
    packages=[*find_packages(include=["bigs_cli", "bigs_cli.*"]), *(f"{SHIPPED}.{kind}" for kind in KINDS)],
    package_dir={SHIPPED: "recipes"},
    package_data={f"{SHIPPED}.{kind}": ["*.yaml"] for kind in KINDS},
)
