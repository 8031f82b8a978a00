-- contract: the version that the package checks before it calls anything else.
-- Called by: AggGateway.check_contract. Needs: nothing.

-- Raised when a function that the package calls changes what it takes or gives: 1 is 0.1.0; 2: health has waits_for_task;
-- 3: agg_due_tasks.
-- Stable, though it is a constant: an immutable call is computed while planning, and PostgREST keeps plans, so that whoever
-- comes next on the connection gets the answer without a check of his rights.
create function public.agg_contract() returns integer language sql stable set search_path = '' as $$ select 4 $$;
comment on function public.agg_contract() is 'Version of the functions that the package calls.';
revoke execute on function public.agg_contract() from public, anon, authenticated;
grant execute on function public.agg_contract() to service_role;
