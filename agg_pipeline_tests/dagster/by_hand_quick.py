"""As by_hand, and a run that is silent for twenty seconds is taken for dead: nobody waits five minutes in a test."""

from agg_pipeline.definitions import build_definitions
from agg_pipeline.orchestration.sensors import release

release.SILENT_S = 20.0
defs = build_definitions(cron_schedule="0 0 29 2 *")
