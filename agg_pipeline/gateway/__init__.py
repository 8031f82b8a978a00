"""The database as the pipeline sees it: one typed method per database function.

Belongs here: names of functions and parameters, the models of what they return, and asking for less at once. Does not:
when to call (ops), how and how often (transport), what the database decides (its functions).
"""

from agg_pipeline.gateway.calls import CONTRACT, FUNCTIONS
from agg_pipeline.gateway.desk import DeskCalls
from agg_pipeline.gateway.runs import RunCalls
from agg_pipeline.gateway.tasks import TaskCalls

__all__ = ["CONTRACT", "FUNCTIONS", "AggGateway"]


class AggGateway(TaskCalls, RunCalls, DeskCalls):
    """Every method raises TransientError or PermanentError (LeaseLost for AG001), and nothing else.

    ``now`` is None but for a replay: then the database's clock counts, and a wrong one here does no harm.
    """
