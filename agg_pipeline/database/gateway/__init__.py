"""The database as the pipeline sees it: one typed method per database function.

Belongs here: names of functions and parameters, the models of what they return, smaller calls where one is too much.
Does not: when to call (aggregation and above), how a call travels (transport), what the database decides.
"""

from agg_pipeline.database.gateway.assets import AssetCalls
from agg_pipeline.database.gateway.bars import BarCalls
from agg_pipeline.database.gateway.calls import CONTRACT, FUNCTIONS
from agg_pipeline.database.gateway.corrections import CorrectionCalls
from agg_pipeline.database.gateway.operation import OperationCalls
from agg_pipeline.database.gateway.runs import RunCalls
from agg_pipeline.database.gateway.tasks import TaskCalls

__all__ = ["CONTRACT", "FUNCTIONS", "AggGateway"]


class AggGateway(TaskCalls, RunCalls, AssetCalls, BarCalls, CorrectionCalls, OperationCalls):
    """Every method raises TransientError or PermanentError (LeaseLost for AG001), and nothing else.

    ``now`` is None except in a replay: the database's clock counts, so a wrong clock here does no harm.
    """
