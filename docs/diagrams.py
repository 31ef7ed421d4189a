"""Draw docs/images/modules.svg and rules.svg from what is really there: the imports of the package, and Snakemake's rule graph of the demo.

`--check` writes nothing and fails when a picture is out of date.
"""

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "code" / "tvts"
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT, GAP, LEVEL = 138, 30, 14, 74
"""Pixels: a box, the space between two boxes, from one row to the next."""

Graph = dict[str, set[str]]
"""Node -> the nodes it needs."""


def modules() -> Graph:
    """The parts of the package, and which other parts each imports."""
    graph: Graph = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__main__":
            continue
        used = graph.setdefault(part, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and (node.module + ".").startswith("tvts."):
                names = [node.module] if "." in node.module else [f"tvts.{alias.name}" for alias in node.names]
                used |= {name.split(".")[1] for name in names}
    return {part: used & graph.keys() - {part} for part, used in graph.items()}


def rules() -> Graph:
    """The rules of the demo's workflow, and which other rules each needs."""
    command = ["--snakefile", str(ROOT / "workflow/Snakefile"), "--configfile", str(ROOT / "demo/config.yaml")]
    command += ["--rulegraph", "dot", "--forceall", "--directory", str(ROOT)]
    dot = subprocess.run(
        [sys.executable, "-m", "snakemake", *command], check=True, capture_output=True, text=True
    ).stdout
    names = dict(re.findall(r'(\d+)\s*\[\s*label = "([^"\\]+)', dot))
    graph: Graph = {name: set() for name in names.values()}
    for needed, needing in re.findall(r"(\d+) -> (\d+)", dot):
        graph[names[needing]].add(names[needed])
    graph.pop("all")
    return graph


def reduced(graph: Graph) -> Graph:
    """Without the needs that follow from others."""
    closure: Graph = {}

    def needs(node: str) -> set[str]:
        if node not in closure:
            closure[node] = set().union(*({other} | needs(other) for other in graph[node]))
        return closure[node]

    return {
        node: {other for other in used if not any(other in needs(third) for third in used)}
        for node, used in graph.items()
    }


def rows(graph: Graph) -> list[list[str]]:
    """Nodes by the longest way down from them, each row ordered by where what its nodes need lies."""
    level: dict[str, int] = {}

    def depth(node: str) -> int:
        if node not in level:
            level[node] = max((depth(other) + 1 for other in graph[node]), default=0)
        return level[node]

    for node in graph:
        depth(node)
    ordered: list[list[str]] = []
    place: dict[str, float] = {}
    for number in range(max(level.values()) + 1):
        row = sorted(node for node in graph if level[node] == number)
        row.sort(key=lambda node: sum(place[other] for other in graph[node]) / max(1, len(graph[node])))
        place |= {node: (at + 0.5) / len(row) for at, node in enumerate(row)}
        ordered.append(row)
    return ordered


def svg(graph: Graph, upwards: bool) -> str:
    """The picture: what needs nothing lies at the bottom (`upwards`) or at the top."""
    levels, links = rows(graph), reduced(graph)
    width = max(len(row) for row in levels) * (WIDTH + GAP) + GAP
    height = (len(levels) - 1) * LEVEL + HEIGHT + 2 * GAP
    corner: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(levels):
        y = GAP + LEVEL * (len(levels) - 1 - number if upwards else number)
        for at, node in enumerate(row):
            corner[node] = ((at + 0.5) * width / len(row) - WIDTH / 2, y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for node, used in sorted(links.items()):
        for other in sorted(used):
            (x1, y1), (x2, y2) = corner[other], corner[node]
            x1, x2 = x1 + WIDTH / 2, x2 + WIDTH / 2
            y1, y2 = (y1, y2 + HEIGHT) if upwards else (y1 + HEIGHT, y2)
            middle = (y1 + y2) / 2
            parts.append(
                f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}" '
                'fill="none" stroke="#9aa4ad"/>'
            )
    for node, (x, y) in sorted(corner.items()):
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#e8f1f8" stroke="#0072B2"/>'
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + HEIGHT / 2 + 4:.0f}" text-anchor="middle" fill="#1b1b1b">{node}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Write or check the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a picture is out of date")
    check = parser.parse_args().check
    for name, picture in {"modules": svg(modules(), upwards=True), "rules": svg(rules(), upwards=False)}.items():
        path = IMAGES / f"{name}.svg"
        if not check:
            path.write_text(picture, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != picture:
            sys.exit(f"{path}: out of date with the code; run `make docs`")


if __name__ == "__main__":
    main()
