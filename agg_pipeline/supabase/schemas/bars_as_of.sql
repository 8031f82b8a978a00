-- bars_as_of: what was known of some bars at a time in the past.
-- Called by: users, over REST. Needs: bars.
--
-- A row is known from created_at until deleted_at. Two branches, one for each partial index.

create function public.bars_as_of(
  p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz, p_as_of_utc timestamptz)
returns setof public.derived_data_bars language sql stable security definer set search_path = '' as $$
  select d.* from public.derived_data_bars d
   where d.canonical_symbol = p_symbol and d.timeframe = p_tf and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc
     and d.deleted_at is null and d.created_at <= p_as_of_utc
  union all
  select d.* from public.derived_data_bars d
   where d.canonical_symbol = p_symbol and d.timeframe = p_tf and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc
     and d.deleted_at is not null and d.created_at <= p_as_of_utc and d.deleted_at > p_as_of_utc
   order by ts_utc
$$;
comment on function public.bars_as_of(text, text, timestamptz, timestamptz, timestamptz) is
  'Rows of derived_data_bars with ts_utc in [p_from_utc, p_to_utc) as they were at p_as_of_utc: at most one a bar, by time. A set: a hosted REST API cuts it at 1,000 rows.';
revoke execute on function public.bars_as_of(text, text, timestamptz, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.bars_as_of(text, text, timestamptz, timestamptz, timestamptz) to service_role;
