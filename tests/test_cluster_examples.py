"""The examples in docs/cluster are well-formed, and the options of their bigs commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bigs_cli.cli import app

FOLDER = Path(__file__).parent.parent / "docs" / "cluster"


def check_options(words: list[str]) -> None:
    """Check the words after `bigs`: the command exists, and parses them."""
    command: Any = typer.main.get_command(app)
    command.commands[words[0]].make_context(words[0], list(words[1:]))


def commands_in(text: str) -> list[list[str]]:
    """Return the words after `bigs` of each command in a script, with values for shell variables."""
    joined = re.sub(r"\\\n|\n(?= {2,}--)", " ", text)
    plain = re.sub(r"\$\(\([^)]*\)\)|\$\{?\w+\}?|\$\(\w+\)", "1", joined)
    lines = [line for line in plain.splitlines() if not line.lstrip().startswith("#")]
    return [shlex.split(found) for line in lines for found in re.findall(r"\bbigs ((?:tokenize|pretrain) .*)", line)]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.slurm")), ids=lambda path: path.name)
def test_slurm_scripts(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    found = commands_in(path.read_text())
    assert found
    for words in found:
        check_options(words)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_jobs(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    job = documents[-1]
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
    script = container["args"][0]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    found = commands_in(script.replace("$together", "--coordinator a:1 --process 1 --processes 4"))
    assert found
    for words in found:
        check_options(words)
    assert f"{job['spec']['completions']}" in script
    # Signals reach only the first process of a container, which must be bigs and not the shell.
    assert script.count("exec bigs") == len(found)
    if len(documents) > 1:
        assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 300
        assert documents[0]["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]


def test_the_image_has_all_files_that_the_package_is_built_from() -> None:
    root = FOLDER.parent.parent
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert all((root / name).exists() for name in copied)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    named = {project["readme"], *project["license-files"]}
    assert copied == {"bigs_cli", "pyproject.toml", "setup.py", "recipes"} | named


def test_the_image_installs_extras_that_exist() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    extras = re.search(r"bigs\[([\w,]+)\]", text)
    project = (FOLDER.parent.parent / "pyproject.toml").read_text()
    assert extras
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = ", project, re.MULTILINE), extra
