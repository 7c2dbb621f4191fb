"""The picture of the house in CONTRIBUTING.md is the house: imports point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / "mlsd").rglob("*.py"))

# what a part of mlsd may import from mlsd; worlds may import each other's skeleton and `files`
MAY_IMPORT = {
    "files": set(),
    "worlds": {"worlds", "files"},
    "estimates": set(),
    "metrics": set(),
    "timing": set(),
    "cluster": set(),
    "search": set(),
    "pretrained": {"files"},
    "faces": {"files"},
    "sentences": {"files"},
    "tables": {"estimates"},
    "figures": {"estimates", "tables"},
    "claims": {"estimates", "tables", "worlds"},
    "decisions": {"claims", "estimates", "tables"},
    "experiments": {"estimates", "worlds"},
    "sequential": {"estimates"},
    "off_policy": {"estimates"},
    "policies": {"worlds"},
    "datasets": {"files", "worlds"},
    "monitoring": {"figures"},
    "serving": {"serving", "timing"},
}


def imported(path: Path) -> set[str]:
    """Names below mlsd that a module imports anywhere in it, e.g. {"worlds.base"}."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).with_suffix(".py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mlsd":
            base = node.module.partition(".")[2]
            found |= {base} if base else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("mlsd.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    part = path.parts[1].removesuffix(".py") if len(path.parts) > 1 else ""
    if part == "__init__":
        assert imported(path) == set()
        return
    assert part in MAY_IMPORT, f"{path}: a new part of mlsd needs its place in MAY_IMPORT and in CONTRIBUTING.md"
    for name in imported(path):
        allowed = MAY_IMPORT[part]
        assert name in allowed or name.split(".")[0] in allowed, f"{path} imports mlsd.{name}; mlsd.{part} may import {sorted(allowed)}"
