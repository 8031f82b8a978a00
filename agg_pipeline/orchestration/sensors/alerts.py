"""The sensor that tells people, once for each change, when a task needs to be looked at and when it no longer does."""

import json
import traceback

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration.notifications import changes, send
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

LOST = "the database"
"""What the cursor calls a database that cannot be asked."""


def build_alert_sensor(settings: Settings) -> dg.SensorDefinition:
    """Sensor alerts: sends changes of health to ALERT_URLS; off while that is empty."""
    urls = settings.alert_urls.get_secret_value()

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if urls else dg.DefaultSensorStatus.STOPPED,
        description="Tells ALERT_URLS when a task failed, stalled or stopped, when a feed is silent while its market "
        "is open, when the database cannot be asked, and when that is over; each change once.",
    )
    def alerts(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.SkipReason:
        told: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        try:
            with supabase.connect() as gateway:
                health = gateway.health()
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            if LOST in told:
                return dg.SkipReason(f"Told already: {exc}")
            return _tell(context, urls, "agg_pipeline: the database cannot be asked", str(exc), told | {LOST: exc.code})
        found = changes(told, health)
        title, text = found.title, found.text
        if LOST in told:
            title, text = "agg_pipeline: the database answers again", text or "Nothing else is new."
        elif not found:
            return dg.SkipReason(f"Nothing new; {len(found.now)} of {len(health)} tasks need to be looked at.")
        return _tell(context, urls, title, text, found.now)

    return alerts


def _tell(
    context: dg.SensorEvaluationContext, urls: str, title: str, text: str, told: dict[str, str] | object
) -> dg.SkipReason:
    if not urls:
        return dg.SkipReason("ALERT_URLS is empty: nobody is told.")
    if failed := send(urls, title, text):
        # Told again in a minute; whoever got it gets it twice, which is better than not at all.
        return dg.SkipReason(f"{failed} of ALERT_URLS did not take the message; it is sent again. {title}")
    context.update_cursor(json.dumps(told))
    return dg.SkipReason(f"Told: {title}")
