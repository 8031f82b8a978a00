-- agg_finish as it was before the fifth phase. Beside the newer one every call over PostgREST fails with PGRST203.
create function public.agg_finish(
  p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null, p_fail_kind text default null,
  p_error text default null, p_stats jsonb default '{}', p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold int default 3)
returns jsonb language plpgsql security definer set search_path = public as $$
begin
  update data_agg_state set status = 'idle', last_agg_bar_ts_utc = coalesce(p_new_cursor_utc, last_agg_bar_ts_utc)
   where canonical_symbol = p_symbol and timeframe = p_tf;
  return jsonb_build_object('success', true);
end $$;
