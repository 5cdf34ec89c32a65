"""What a study keeps of a trial beside what Optuna keeps, as user attributes of its record."""

from __future__ import annotations

STATE = "state"
"""Where it says more than Optuna's: infeasible, refused, or one of the next two, which are no trials of the study."""
EARLIER, SURPLUS = "earlier", "surplus"
"""Of a study before; given back, since other workers had begun enough."""
VALUES, RUN, REASON, WORKER, RELEASED = "values", "run", "reason", "worker", "released"
"""Values as the recipe writes them; its run folder; why it ended so; whose machine; stopped, to be resumed."""
SPENT = "spent"
"""Seconds of its starts that have ended."""
CONTINUES, STEPS = "continues", "steps"
"""The number of the trial that this record continues; the steps of its training."""
