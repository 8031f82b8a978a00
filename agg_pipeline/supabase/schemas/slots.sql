-- _agg_slots: which source bars a range of a task should have. The only place that knows what "expected" is.
-- Called by: _agg_compute with the windows that it found, agg_gaps with runs of absent bars. Needs: trading_calendars,
-- types.
--
-- A slot is a window of the source timeframe. It is expected if the calendar in force when it starts has a session that
-- intersects it. One call for many ranges; a range in which all is expected has no row.

create function public._agg_slots(p_ranges public.agg_range[])
returns table (canonical_symbol text, timeframe text, from_utc timestamptz, expected integer, closed tstzmultirange)
language plpgsql stable rows 10 set search_path = '' set timezone = 'UTC' as $$
#variable_conflict use_column
begin
  return query
  select shut.canonical_symbol, shut.timeframe, shut.from_utc,
         ((extract(epoch from shut.to_utc - shut.from_utc)
           - coalesce((select sum(extract(epoch from upper(run) - lower(run))) from unnest(shut.closed) run), 0))
          / 60 / shut.slot_minutes)::integer,
         shut.closed
    from (select r.canonical_symbol, r.timeframe, r.from_utc, r.to_utc, slot.minutes as slot_minutes,
                 range_agg(tstzmultirange(tstzrange(greatest(r.from_utc, c.from_utc), least(r.to_utc, c.to_utc)))
                           - coalesce(sessions.slots, '{}')) as closed
            from unnest(p_ranges) r
            join public.agg_timeframes t on t.timeframe = r.timeframe
            join public.agg_timeframes slot on slot.timeframe = t.source_timeframe
            join public.agg_symbol_calendars c
              on c.canonical_symbol = r.canonical_symbol and c.from_utc < r.to_utc and c.to_utc > r.from_utc
            left join lateral (
              select range_agg(tstzrange(date_bin(slot.length, s.open_utc, slot.origin_utc),
                                         date_bin(slot.length, s.close_utc - interval '1 microsecond', slot.origin_utc)
                                         + slot.length)) as slots
                from public.trading_sessions s
               where s.calendar = c.calendar and s.open_utc < r.to_utc and s.open_utc > r.from_utc - interval '168 hours'
                 and s.close_utc > r.from_utc) sessions on true
           group by r.canonical_symbol, r.timeframe, r.from_utc, r.to_utc, slot.minutes) shut
   where not isempty(shut.closed);
end $$;
comment on function public._agg_slots(public.agg_range[]) is
  'Per range: source bars expected in it, and the time in which none is (closed, cut to slots). No row: all are expected. Ranges must be on the grid of the source.';
revoke execute on function public._agg_slots(public.agg_range[]) from public, anon, authenticated, service_role;
