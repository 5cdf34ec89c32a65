"""The stage graph as a picture: Mermaid, DOT, or SVG with stages in columns by depth."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from ftdsl.plan.plan import Plan
from ftdsl.printable import shortened

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 190, 54, 60, 22, 20


@dataclass(frozen=True, slots=True)
class Node:
    """A stage: its key, what it does, the stages it waits for (needs), and those whose result it uses (flows)."""

    key: str
    kind: str
    detail: str
    needs: tuple[str, ...]
    flows: tuple[str, ...]


def nodes(plan: Plan) -> list[Node]:
    """The stages in run order."""
    graph_nodes = []
    for planned in plan.stages:
        stage = planned.stage
        detail = " ".join(part for part in (stage.kind, planned.method) if part)
        if planned.world.gpu:
            detail += f" on {planned.world.size} x {planned.world.gpu}"
        graph_nodes.append(Node(stage.key, stage.kind, detail, stage.needs, stage.parents))
    return graph_nodes


def mermaid(plan: Plan) -> str:
    """A `graph LR` block; a solid arrow passes a model on, a dotted one is a dependency or data."""
    lines = ["graph LR"]
    names = {node.key: f"s{at}" for at, node in enumerate(nodes(plan))}
    for node in nodes(plan):
        lines.append(f'  {names[node.key]}["{_quoted(node.key)}<br/>{_quoted(node.detail)}"]')
    for node in nodes(plan):
        for need in node.needs:
            lines.append(f"  {names[need]} {'-->' if need in node.flows else '-.->'} {names[node.key]}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return escape(text).replace("\n", " ")


def dot(plan: Plan) -> str:
    """The graph in Graphviz' DOT language."""
    lines = ["digraph recipe {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for node in nodes(plan):
        lines.append(f'  "{_dotted(node.key)}" [label="{_dotted(node.key)}\\n{_dotted(node.detail)}"];')
    for node in nodes(plan):
        for need in node.needs:
            style = "" if need in node.flows else " [style=dashed]"
            lines.append(f'  "{_dotted(need)}" -> "{_dotted(node.key)}"{style};')
    return "\n".join([*lines, "}"]) + "\n"


def _dotted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def svg(plan: Plan) -> str:
    """The graph as SVG, in the viewer's light or dark scheme."""
    return drawn(nodes(plan))


def drawn(graph_nodes: list[Node]) -> str:
    """Nodes as SVG, in their order."""
    corners = _corners(graph_nodes)
    width = max((x for x, _ in corners.values()), default=0) + WIDTH + MARGIN
    height = max((y for _, y in corners.values()), default=0) + HEIGHT + MARGIN
    body = [_edge(corners[need], corners[node.key], need in node.flows) for node in graph_nodes for need in node.needs]
    body += [_box(node, corners[node.key]) for node in graph_nodes]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, _STYLE, *body, "</svg>"]) + "\n"


_STYLE = """<style>
  text { font: 13px sans-serif; fill: #222 } .d { font-size: 11px; fill: #666 }
  rect { fill: #f6f8fa; stroke: #57606a } path { stroke: #57606a; fill: none }
  @media (prefers-color-scheme: dark) { text { fill: #eee } .d { fill: #aaa } rect { fill: #22272e } }
</style>"""


def _corners(graph_nodes: list[Node]) -> dict[str, tuple[int, int]]:
    """Upper left corners: a column for each depth, rows in run order."""
    depth: dict[str, int] = {}
    next_row: dict[int, int] = {}
    corners: dict[str, tuple[int, int]] = {}
    for node in graph_nodes:
        depth[node.key] = column = max((depth[need] + 1 for need in node.needs), default=0)
        row = next_row[column] = next_row.get(column, -1) + 1
        corners[node.key] = (MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
    return corners


def _box(node: Node, at: tuple[int, int]) -> str:
    x, y = at
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        f'<text x="{x + 12}" y="{y + 22}">{escape(shortened(node.key, 24))}</text>'
        f'<text class="d" x="{x + 12}" y="{y + 41}">{escape(shortened(node.detail, 30))}</text>'
    )


def _edge(start: tuple[int, int], end: tuple[int, int], solid: bool) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0], end[1] + HEIGHT // 2
    middle = (x1 + x2) // 2
    if end[0] - start[0] > WIDTH + GAP_X and y1 == y2:  # past the boxes between, below them
        x1, y1, x2 = x1 - WIDTH // 3, start[1] + HEIGHT, end[0] + WIDTH // 3
        low = y1 + GAP_Y
        dashed = "" if solid else ' stroke-dasharray="4 3"'
        arrow = f"M{x2 - 4} {y1 + 7} L{x2} {y1} L{x2 + 4} {y1 + 7}"
        return f'<path d="M{x1} {y1} C{x1} {low} {x2} {low} {x2} {y1} {arrow}"{dashed}/>'
    dashed = "" if solid else ' stroke-dasharray="4 3"'
    arrow = f"M{x2 - 7} {y2 - 4} L{x2} {y2} L{x2 - 7} {y2 + 4}"
    return f'<path d="M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2} {arrow}"{dashed}/>'
