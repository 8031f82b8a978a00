-- session clock: how much open time lies between two moments, and how times and durations are written in reasons.
-- Called by: _agg_health. Needs: nothing.

-- How many windows of a length between two places of its grid hold open time. Null: all time is open.
create function public._agg_open_windows(
  p_from_utc timestamptz, p_to_utc timestamptz, p_length interval, p_origin_utc timestamptz, p_closed tstzmultirange)
returns integer language plpgsql immutable set search_path = '' set timezone = 'UTC' as $$
begin
  if p_from_utc is null or p_to_utc is null then
    return null;
  elsif p_from_utc >= p_to_utc then
    return 0;
  elsif p_closed is null then
    return extract(epoch from p_to_utc - p_from_utc) / extract(epoch from p_length);
  end if;
  return (
    select coalesce(sum(extract(epoch from upper(run) - lower(run)) / extract(epoch from p_length)), 0)
      from (select range_agg(tstzrange(date_bin(p_length, lower(open), p_origin_utc),
                                       date_bin(p_length, upper(open) - interval '1 microsecond', p_origin_utc) + p_length)) as runs
              from unnest(tstzmultirange(tstzrange(p_from_utc, p_to_utc)) - p_closed) open) aligned, unnest(aligned.runs) run);
end $$;
comment on function public._agg_open_windows(timestamptz, timestamptz, interval, timestamptz, tstzmultirange) is
  'Windows in [p_from_utc, p_to_utc) that hold time outside of p_closed; p_closed null: all.';
revoke execute on function public._agg_open_windows(timestamptz, timestamptz, interval, timestamptz, tstzmultirange)
  from public, anon, authenticated, service_role;

-- A time and a duration as people read them.
create function public._agg_minute(p_time_utc timestamptz)
returns text language sql stable set search_path = '' set timezone = 'UTC' as $$
  select to_char(p_time_utc, 'YYYY-MM-DD HH24:MI')
$$;
revoke execute on function public._agg_minute(timestamptz) from public, anon, authenticated, service_role;

create function public._agg_duration(p_seconds bigint)
returns text language sql immutable set search_path = '' as $$
  select case when p_seconds < 7200 then p_seconds / 60 || ' min'
              when p_seconds < 172800 then p_seconds / 3600 || ' h'
              else p_seconds / 86400 || ' days' end
$$;
revoke execute on function public._agg_duration(bigint) from public, anon, authenticated, service_role;
