-- What two agg_finish do: nobody closes a task any more.
update public.data_agg_state
   set status = 'running', running_started_at_utc = '2026-01-18 23:56+00', last_error = ' | stale_running_recovered';
