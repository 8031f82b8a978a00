"""Database functions as typed Python methods, one method per function.

Belongs here: names of functions and parameters, the models of their results, splitting a call that is too large.
Does not belong here: when to call (aggregation and above), how a call is sent (transport), what the database decides.
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
    """Calls of all database functions. Methods raise TransientError or PermanentError (LeaseLost for AG001) only.

    ``now`` is None except in tests and replays: the database then uses its own clock, not that of this machine.
    """
