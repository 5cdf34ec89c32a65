"""Where trials are kept: SQLite in the study's folder, or a server that several workers share."""

from __future__ import annotations

import logging
import os
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdsl.language.values import Secret
from ftdsl.search.errors import MissingPackageError, StudyError
from ftdsl.source import Span

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

HEARTBEAT = 20
"""Seconds between two signs of life of a trial."""
GRACE = 120
"""Seconds without one after which a trial of another machine counts as lost."""
PATIENCE = 60
"""Seconds that a worker waits for a database that another one writes to."""
ATTEMPTS = 8
INSTALL = "pip install 'ftdsl[search]'"


def need_optuna() -> None:
    """Raises: MissingPackageError."""
    if find_spec("optuna") is None:
        raise MissingPackageError(f"a search needs Optuna; type: {INSTALL}")


def quiet() -> None:
    """Optuna speaks to the log of whoever writes its loop; ours is in the view."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", module="optuna")
    warnings.filterwarnings("ignore", message="Heartbeat of storage")


def written(value: Any, span: Span | None) -> str:
    """The address that a recipe names, "" where it names none. Raises: StudyError when a secret is not set."""
    if isinstance(value, Secret):
        if not (address := os.environ.get(value.variable)):
            raise StudyError("FT096", f"{value.variable} is not set", span, f"export {value.variable}=postgresql://…")
        return address
    return str(value or "")


def url_of(address: str, recipe_folder: Path, study: Path) -> str:
    """The address of a storage as SQLAlchemy takes it. A path in it is seen from the recipe's folder."""
    if not address:
        return f"sqlite:///{(study / 'study.db').resolve().as_posix()}"
    scheme, _, rest = address.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and not rest.startswith("//"):
        return f"sqlite:///{(recipe_folder.resolve() / rest[1:]).as_posix()}"
    return f"postgresql+psycopg://{rest}" if scheme == "postgresql" else address


def is_shared(url: str) -> bool:
    """Whether several workers may open it at once."""
    return not url.startswith("sqlite")


def masked(url: str) -> str:
    """An address without its password."""
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, user = head.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}:***@{tail}" if ":" in user else url


def opened(url: str, span: Span | None, on_lost: Any = None) -> RDBStorage:
    """The storage at an address. on_lost: called with the study and a trial whose worker gave no sign of life.

    Raises: StudyError when it cannot be reached, MissingPackageError without Optuna or a driver.
    """
    need_optuna()
    import optuna
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

    quiet()
    local = not is_shared(url)
    arguments = {
        "connect_args": {"timeout": PATIENCE} if local else {"connect_timeout": 10},
        "pool_pre_ping": not local,
    }
    if local and "///" in url:
        try:
            Path(url.partition("///")[2]).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"the storage {url} cannot be opened: {(error.strerror or str(error)).lower()}"
            raise StudyError("FT096", text, span, "name a place that can be written") from None
    for attempt in range(ATTEMPTS):
        try:
            return optuna.storages.RDBStorage(
                url, engine_kwargs=arguments, heartbeat_interval=HEARTBEAT, grace_period=GRACE,
                heartbeat_stale_trial_callback=on_lost,
            )  # fmt: skip
        except ImportError as error:
            raise MissingPackageError(f"{masked(url)} needs a driver ({error}); type: {INSTALL}") from None
        except (SQLAlchemyError, ValueError, RuntimeError) as error:
            if isinstance(error, IntegrityError | ProgrammingError) and attempt + 1 < ATTEMPTS:
                time.sleep(0.5)  # another worker makes the same tables
                continue
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            help = "start the server, or leave `storage` out: SQLite in the study's folder needs none"
            raise StudyError("FT096", f"the storage {masked(url)} cannot be opened: {reason}", span, help) from None
    raise AssertionError("the last attempt returns or raises")
