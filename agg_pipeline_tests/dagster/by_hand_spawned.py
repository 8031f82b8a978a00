"""As by_hand, and each run is a new process of the code server, as in production."""

from agg_pipeline.definitions import build_definitions

defs = build_definitions(cron_schedule="0 0 29 2 *")
