"""The launcher: what it installs and when, and what it says where it cannot."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT

APP = 'import json, os, sys; print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "prefix": sys.prefix}))'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of nothing but the launcher, in a folder with a space, that needs no package at all."""
    root = tmp_path / "a project"
    (root / "app").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "foretide", root)
    (root / "app/__main__.py").write_text(APP)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (root / name).write_text("# nothing\n")
    return root


def stamp(project: Path, name: str = "requirements.txt") -> Path:
    return project / ".venv" / f".installed-{name}"


def pretend_installed(project: Path) -> None:
    """A .venv that holds what requirements.txt asks for, without the seconds that making one takes."""
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").symlink_to(sys.executable)
    stamp(project).write_text(hashlib.sha256((project / "requirements.txt").read_bytes()).hexdigest())


def start(project: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(project / "foretide"), *arguments], capture_output=True, text=True, check=False, **options
    )


def test_it_becomes_the_command_and_keeps_the_folder(project: Path, tmp_path: Path):
    pretend_installed(project)
    (tmp_path / "app").mkdir()  # a folder of the user's that must not be taken for ours
    (tmp_path / "app/__main__.py").write_text("print('not ours')")
    done = start(project, "jobs", "--json", "a b", cwd=tmp_path, env={})
    assert '"argv": ["jobs", "--json", "a b"]' in done.stdout
    assert f'"cwd": "{tmp_path}"' in done.stdout
    assert done.stderr == ""


def test_changed_requirements_are_installed_anew(project: Path):
    pretend_installed(project)
    (project / "requirements.txt").write_text("no-such-package==1 --hash=sha256:" + "0" * 64 + "\n")
    done = start(project, "jobs", env={"PIP_NO_INDEX": "1", "PATH": os.defpath})
    assert done.returncode == 1
    assert "installing requirements.txt" in done.stderr
    assert "run the same command again" in done.stderr
    assert not stamp(project).exists()  # an install that failed is not taken for a good one


def test_an_old_python_is_told_what_is_needed(project: Path):
    launcher = (project / "foretide").read_text().replace("sys.version_info < (3, 11)", "sys.version_info < (9, 0)")
    (project / "foretide").write_text(launcher)
    done = start(project)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs Python 3.11" in done.stderr


def test_without_ensurepip_and_uv_it_names_the_package(project: Path):
    launcher = (project / "foretide").read_text().replace('find_spec("ensurepip")', 'find_spec("no_such_module")')
    (project / "foretide").write_text(launcher)
    done = start(project, env={"PATH": os.defpath})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "apt install python3-venv" in done.stderr
