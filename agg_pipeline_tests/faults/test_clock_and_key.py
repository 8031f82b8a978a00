"""Faults of the pipeline's own machine: a wrong clock, a wrong key."""

import datetime as dt
import logging
import time

import pytest

from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline_tests.faults.conftest import FAULTS
from agg_pipeline_tests.faults.judge import BEGIN
from agg_pipeline_tests.faults.world import HOUR, MINUTE, SYMBOLS, World
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import put


@pytest.mark.nightly
@pytest.mark.parametrize("ahead", [2 * HOUR, -2 * HOUR])
def test_the_clock_is_wrong(world: World, ahead: dt.timedelta) -> None:
    """A tick every five minutes while bars come in, an hour of them with the wrong time."""
    world.begin()
    built: list[dict[str, int]] = []
    for n in range(13):
        with world.connect() as db:
            for symbol in SYMBOLS:
                put(db, symbol, world.now - MINUTE, 5)
            world.now += 5 * MINUTE
            built.append(dict(db.execute("select timeframe, count(*) from derived_data_bars group by 1").fetchall()))
        assert world.tick(late=ahead if n < 11 else 0 * HOUR).success
    if ahead > 0 * HOUR:
        assert built[9]["1h"] > built[0]["1h"], "they would not wait for the rest of an hour of which there is enough"
    else:
        assert built[9] == built[0], "they would see nothing that has ended"
    world.now = BEGIN + 25 * HOUR
    direction = "ahead" if ahead > 0 * HOUR else "behind"
    world.recovers(f"clock two hours {direction}", "in eleven runs, five minutes apart, while bars arrive")


def keys(world: World) -> dict[str, str]:
    service, hour = {"role": "service_role"}, 3600
    return {
        "expired": sign_token(world.stack.jwt_secret, service | {"exp": int(time.time()) - hour}),
        "of another project": sign_token("x" * 32, service | {"exp": int(time.time()) + hour}),
        "of another role": sign_token(world.stack.jwt_secret, {"role": "anon", "exp": int(time.time()) + hour}),
        "no token at all": "sb_secret_0123456789abcdef",
    }


@pytest.mark.parametrize(
    "which", sampled(["expired", "of another project", "of another role", "no token at all"], ["of another project"])
)
def test_the_key_is_wrong(world: World, which: str, caplog: pytest.LogCaptureFixture) -> None:
    """The run is red and says which variable to set; the key shows nowhere; with the right one all goes on."""
    caplog.set_level(logging.DEBUG)
    right, world.key = world.key, keys(world)[which]
    runs = [world.tick() for _ in range(FAULTS)]
    for run in runs:
        assert not run.success
        assert "SUPABASE_SERVICE_ROLE_KEY" in run.said
        for part in world.key.split("."):
            assert part not in run.log
            assert part not in caplog.text
    world.key = right
    world.recovers("wrong key", f"{which}, in each run until it is right")
