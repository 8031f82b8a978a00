-- Back to the state before its fifth phase, as far as a state of a database goes.
alter table public.data_agg_state
  drop column is_mandatory, drop column agg_start_utc, drop column enabled, drop column task_priority;
drop function public.agg_get_due_tasks(text, timestamptz, int, int);
create function public.agg_get_due_tasks(
  p_env_name text, p_now_utc timestamptz default now(), p_limit int default 20, p_running_stale_seconds int default 900)
returns table (canonical_symbol text, timeframe text, source_timeframe text, run_interval_minutes int,
  aggregation_delay_seconds int, last_agg_bar_ts_utc timestamptz, status text, hard_fail_streak int)
language sql security definer set search_path = public as $$
  select s.canonical_symbol, s.timeframe, s.source_timeframe, s.run_interval_minutes, s.aggregation_delay_seconds,
         s.last_agg_bar_ts_utc, s.status, s.hard_fail_streak
    from data_agg_state s where s.status = 'idle' and coalesce(s.next_run_at, p_now_utc) <= p_now_utc
   order by s.next_run_at limit p_limit
$$;
drop function public.agg_finish(text, text, boolean, timestamptz, jsonb, text, text, timestamptz, int);
drop function public.sync_agg_state_from_registry(text, timestamptz);
