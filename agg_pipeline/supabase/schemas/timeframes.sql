-- timeframes: the ladder as a table of rules. A new timeframe is one row.
-- Called by: everything below. Needs: nothing.

create table public.agg_timeframes (
  timeframe text primary key,
  minutes integer not null check (minutes > 0),
  source_timeframe text references public.agg_timeframes (timeframe),
  -- make_interval(mins), never '1 day': a window is a fixed length of time in every session time zone.
  length interval not null generated always as (make_interval(mins => minutes)) stored,
  origin_utc timestamptz not null default '2001-01-01 00:00:00+00'
);

alter table public.agg_timeframes enable row level security;
revoke all on table public.agg_timeframes from public, anon, authenticated, service_role;
grant select on table public.agg_timeframes to service_role;
comment on table public.agg_timeframes is
  'Timeframes and what each is built from. Windows are [start, start + length), UTC, counted from origin_utc, a Monday. source_timeframe null: only ever a base.';

insert into public.agg_timeframes (timeframe, minutes, source_timeframe) values
  ('1m', 1, null),
  ('5m', 5, '1m'),
  ('15m', 15, '5m'),
  ('1h', 60, '5m'),
  ('4h', 240, '1h'),
  ('1d', 1440, '1h');
