"""On which platforms can the lock be installed? Asked of the package index, without installing anything.

python -m press.platforms            table of what has no wheel where, into reports/platforms.json
python -m press.platforms --check    the same, and exit 1 if a platform that the book promises has lost a wheel
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports" / "platforms.json"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def _manylinux(machine: str) -> list[str]:
    """Platform tags of glibc 2.28 and older (Debian 10, Ubuntu 18.10, RHEL 8), newest first."""
    named = [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    return [f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1)] + named


# name -> (promised, platform tags that its pip accepts, what markers of the lock see there)
PLATFORMS: dict[str, tuple[bool, list[str], dict[str, str]]] = {
    "Linux x86-64": (True, _manylinux("x86_64"), {"sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"}),
    "Linux aarch64": (True, _manylinux("aarch64"), {"sys_platform": "linux", "os_name": "posix", "platform_machine": "aarch64"}),
    "macOS 14, Apple silicon": (
        True,
        list(mac_platforms((14, 0), "arm64")),
        {"sys_platform": "darwin", "os_name": "posix", "platform_machine": "arm64"},
    ),
    "macOS 14, Intel": (
        False,
        list(mac_platforms((14, 0), "x86_64")),
        {"sys_platform": "darwin", "os_name": "posix", "platform_machine": "x86_64"},
    ),
    "Windows x86-64": (True, ["win_amd64"], {"sys_platform": "win32", "os_name": "nt", "platform_machine": "AMD64"}),
}


def resolved(lock: Path) -> list[dict]:
    """Each pinned package with the wheels and the source archive that the index has of it, as PEP 751 writes them."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[0], "--no-deps"]
    command += ["--no-header", "--format", "pylock.toml", str(lock)]
    return tomllib.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["packages"]


def wheel_names(package: dict) -> list[str]:
    return [unquote(wheel["url"].rsplit("/", 1)[-1]) for wheel in package.get("wheels", [])]


def accepted(python: str, platforms: list[str]) -> set[Tag]:
    """The tags of the wheels that pip of this Python installs on such a platform."""
    version = tuple(int(part) for part in python.split("."))
    interpreter = "cp" + python.replace(".", "")
    return {*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms)}


def without_wheel(packages: list[dict], python: str, platforms: list[str], markers: dict[str, str]) -> list[str]:
    """Packages that the lock wants there and for which there is no wheel: a compiler would be needed, or luck."""
    here = {"python_version": python, "python_full_version": f"{python}.9", "implementation_name": "cpython", **markers}
    wanted = [p for p in packages if "marker" not in p or Marker(p["marker"]).evaluate(here)]
    tags = accepted(python, platforms)
    return [
        f"{package['name']} {package['version']}"
        for package in wanted
        if not any(tags & parse_wheel_filename(name)[3] for name in wheel_names(package))
    ]


def table(packages: list[dict]) -> dict[str, dict]:
    """{platform: {"promised": bool, "without_wheel": {Python: packages}}}"""
    return {
        name: {"promised": promised, "without_wheel": {p: without_wheel(packages, p, tags, markers) for p in PYTHONS}}
        for name, (promised, tags, markers) in PLATFORMS.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    found = table(resolved(ROOT / "requirements.txt"))
    REPORT.write_text(json.dumps(found, indent=1) + "\n")
    broken = 0
    for platform, row in found.items():
        for python, lacking in row["without_wheel"].items():
            broken += bool(lacking) and row["promised"]
            print(f"{platform:24} Python {python}: {'every package' if not lacking else 'no wheel of ' + ', '.join(lacking)}")
    return int(arguments.check and broken > 0)


if __name__ == "__main__":
    sys.exit(main())
