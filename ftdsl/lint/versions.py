"""FT901: the versions in force against those that the engine supports."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.diagnostics import Sink
from ftdsl.environments import Versions
from ftdsl.source import Span


def check_versions(versions: Versions, title: str, span: Span, sink: Sink) -> None:
    """Report versions in force that the engine does not support. title: the engine's display name.

    An unknown version is checked as the nearest known one; a version older than all known ones cannot be checked. What the
    engine rejects at start is a warning, since the run may be elsewhere; what only pip would reject is an info.
    """
    held, known = versions.packages.get(versions.engine), catalog.versions(versions.engine)
    if held is None or not known:
        return  # an engine without version history
    if catalog.numbers(held.version) < catalog.numbers(known[0]):
        text = f"the parameters of {title} {held.version} ({held.source}) are unknown"
        sink.error("FT901", text, span, help=f"known: {', '.join(known)}")
    elif not held.exact:
        sink.warning("FT901", f"{title} {held.version} ({held.source}) is unknown: it is checked as {held.facts}", span)
    for package, resolved, wanted in versions.refused():
        text = f"{title} {held.version} rejects {package} {resolved.version} ({resolved.source}) at start"
        sink.warning("FT901", text, span, help=f"install {package}{wanted}")
    for package, resolved, wanted in versions.outside():
        text = f"{package} {resolved.version} ({resolved.source}) is outside the range of {title} {held.version}"
        sink.info("FT901", text, span, help=f"its metadata requires {package}{wanted}; it starts nevertheless")
