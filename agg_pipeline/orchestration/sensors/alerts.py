"""The sensor alerts: notifies once for each change when a task needs an operator and when it no longer does."""

import json
import traceback
from collections.abc import Mapping

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration.notifications import changes_since, send
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

UNREACHABLE = "the database"
"""Key in the cursor of the sensor while the database cannot be reached. Dagster stores the cursor: do not change it."""


def build_alert_sensor(settings: Settings) -> dg.SensorDefinition:
    """Sensor alerts: sends changes of the health of tasks to ALERT_URLS; stopped by default if that is empty."""
    urls = settings.alert_urls.get_secret_value()

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING if urls else dg.DefaultSensorStatus.STOPPED,
        description="Notifies ALERT_URLS when a task fails, stalls or is disabled, when a feed is silent while its "
        "market is open, when the database cannot be reached, and when that is over; each change once.",
    )
    def alerts(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.SkipReason:
        sent: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        try:
            with supabase.connect() as gateway:
                health = gateway.health()
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            if UNREACHABLE in sent:
                return dg.SkipReason(f"Sent already: {exc}")
            sent |= {UNREACHABLE: exc.code}
            return _notify(context, urls, "agg_pipeline: the database cannot be reached", str(exc), sent)
        found = changes_since(sent, health)
        title, text = found.title, found.text
        if UNREACHABLE in sent:
            title, text = "agg_pipeline: the database can be reached again", text or "No other change."
        elif not found:
            return dg.SkipReason(f"No change; {len(found.now)} of {len(health)} tasks need an operator.")
        return _notify(context, urls, title, text, found.now)

    return alerts


def _notify(
    context: dg.SensorEvaluationContext, urls: str, title: str, text: str, sent: Mapping[str, str]
) -> dg.SkipReason:
    """Send a message and store ``sent``, the alerts that are then open, as the cursor."""
    if not urls:
        return dg.SkipReason("ALERT_URLS is empty: no message is sent.")
    if failed := send(urls, title, text):
        # The cursor stays, so the next evaluation sends the message again, to all of them: twice rather than never.
        return dg.SkipReason(f"{failed} of ALERT_URLS did not accept the message; it is sent again. {title}")
    context.update_cursor(json.dumps(sent))
    return dg.SkipReason(f"Sent: {title}")
