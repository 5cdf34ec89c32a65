"""FT901: the versions that count, held against what the engine takes."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.diagnostics import Sink
from ftdsl.environments import Versions
from ftdsl.source import Span


def check_versions(versions: Versions, title: str, span: Span, sink: Sink) -> None:
    """Report which versions count and are not those the engine is known to take; title: the engine's, as people write it.

    A version that is not known is checked as the nearest; one older than all that are known cannot be. What the engine refuses
    at start is a warning, since the run may be elsewhere; what only pip would refuse is an info.
    """
    held, known = versions.packages.get(versions.engine), catalog.versions(versions.engine)
    if held is None or not known:
        return  # an engine whose parameters are not kept by version
    if catalog.numbers(held.version) < catalog.numbers(known[0]):
        text = f"the parameters of {title} {held.version} ({held.source}) are not known"
        sink.error("FT901", text, span, help=f"known: {', '.join(known)}")
    elif not held.exact:
        sink.warning(
            "FT901", f"{title} {held.version} ({held.source}) is not known: it is taken for {held.facts}", span
        )
    for package, resolved, wanted in versions.refused():
        text = f"{title} {held.version} refuses {package} {resolved.version} ({resolved.source}) when it starts"
        sink.warning("FT901", text, span, help=f"install {package}{wanted}")
    for package, resolved, wanted in versions.outside():
        text = f"{package} {resolved.version} ({resolved.source}) is not among what {title} {held.version} was released for"
        sink.info("FT901", text, span, help=f"its metadata asks for {package}{wanted}; it starts all the same")
