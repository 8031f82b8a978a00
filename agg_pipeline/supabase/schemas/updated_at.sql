-- updated_at: true without trusting writers to set it.
-- Called by: triggers on data_agg_state and derived_data_bars. Needs: agg_state, bars.

create function public._set_updated_at() returns trigger language plpgsql set search_path = '' as $$
begin
  new.updated_at := pg_catalog.now();
  return new;
end $$;
revoke execute on function public._set_updated_at() from public, anon, authenticated, service_role;

create trigger trg_agg_state_updated_at before update on public.data_agg_state
  for each row execute function public._set_updated_at();
create trigger trg_derived_updated_at before update on public.derived_data_bars
  for each row execute function public._set_updated_at();
