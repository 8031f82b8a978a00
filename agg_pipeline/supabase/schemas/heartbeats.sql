-- heartbeats: which runs have a process that lives.
-- Called by: each process of a run every few seconds; the sensor release_leases. Needs: nothing.
--
-- A run is dead when its process is, not when it is quiet: a healthy run may compute for minutes without a call.

create table public.ops_heartbeats (
  run_id uuid primary key,
  env_name text not null,
  beat_at timestamptz not null
);
alter table public.ops_heartbeats enable row level security;
revoke all on table public.ops_heartbeats from public, anon, authenticated, service_role;
comment on table public.ops_heartbeats is 'One row per run whose process lives, or died without saying so; beat_at is its newest sign of life.';

create function public.ops_heartbeat(p_run_id uuid, p_env_name text, p_ended boolean default false)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
begin
  if p_ended then
    delete from public.ops_heartbeats h where h.run_id = p_run_id;
  else
    insert into public.ops_heartbeats as h (run_id, env_name, beat_at) values (p_run_id, upper(p_env_name), clock_timestamp())
    on conflict (run_id) do update set beat_at = excluded.beat_at where h.beat_at < excluded.beat_at;
  end if;
  return jsonb_build_object('success', true);
end $$;
comment on function public.ops_heartbeat(uuid, text, boolean) is 'A sign of life of a run; p_ended: its process ends, so that none is expected any more.';
revoke execute on function public.ops_heartbeat(uuid, text, boolean) from public, anon, authenticated;
grant execute on function public.ops_heartbeat(uuid, text, boolean) to service_role;

-- By the clock of the database alone, which also stamped the beats.
create function public.ops_heartbeats_of(p_env_name text)
returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_object_agg(h.run_id, extract(epoch from clock_timestamp() - h.beat_at)), '{}')
    from public.ops_heartbeats h where h.env_name = upper(p_env_name)
$$;
comment on function public.ops_heartbeats_of(text) is 'JSON {run id: seconds since its newest sign of life} of the runs of an environment.';
revoke execute on function public.ops_heartbeats_of(text) from public, anon, authenticated;
grant execute on function public.ops_heartbeats_of(text) to service_role;
