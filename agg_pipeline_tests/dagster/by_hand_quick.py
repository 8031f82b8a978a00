"""As by_hand, and a run that is silent for twenty seconds is taken for dead: nobody waits five minutes in a test."""

from agg_pipeline import sensors
from agg_pipeline.definitions import build_definitions

sensors.SILENT_S = 20.0
defs = build_definitions(cron_schedule="0 0 29 2 *")
