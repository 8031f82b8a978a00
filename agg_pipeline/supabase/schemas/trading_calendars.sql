-- trading calendars: when a market is open, and which calendar an asset follows from when on.
-- Called by: agg_refresh_calendar fills the sessions; _agg_slots reads. Needs: asset_registry.
--
-- 24x7 has no sessions, and neither has time that a calendar does not cover (not filled yet, or further ahead than it
-- is known): there every slot is expected, so that a forgotten refresh shows as missing bars and never hides any.

create table public.trading_calendars (
  calendar text primary key,
  from_utc timestamptz,
  to_utc timestamptz,
  version text,
  refreshed_at timestamptz,
  check (from_utc < to_utc)
);
alter table public.trading_calendars enable row level security;
revoke all on table public.trading_calendars from public, anon, authenticated, service_role;
grant select on table public.trading_calendars to service_role;
comment on table public.trading_calendars is
  'Names that trading_calendar may have, and the time [from_utc, to_utc) of which trading_sessions has all sessions; version: where from.';

insert into public.trading_calendars (calendar)
select unnest(string_to_array('24x7 fx_24x5 AIXK ASEX BVMF CMES IEPA XAMS XASX XBDA XBEL XBKK XBOG XBOM XBRA XBRU XBSE XBUD XBUE '
  'XCBF XCSE XCYS XDUB XDUS XEEE XETR XEUR XFRA XHAM XHEL XHKG XICE XIDX XIST XJSE XKAR XKLS XKRX XLIM XLIS XLIT XLJU XLON XLUX '
  'XMAD XMEX XMIL XMOS XNYS XNZE XOSL XPAR XPHS XPRA XRIS XSAU XSES XSGO XSHG XSTO XSTU XSWX XTAE XTAI XTAL XTKS XTSE XWAR XWBO '
  'XZAG us_futures', ' '));

create table public.trading_sessions (
  calendar text not null references public.trading_calendars (calendar),
  open_utc timestamptz not null,
  close_utc timestamptz not null,
  primary key (calendar, open_utc),
  -- Who looks for the sessions around a time need not look back further than this.
  check (open_utc < close_utc and close_utc <= open_utc + interval '168 hours')
);
alter table public.trading_sessions enable row level security;
revoke all on table public.trading_sessions from public, anon, authenticated, service_role;
grant select on table public.trading_sessions to service_role;
comment on table public.trading_sessions is
  'A calendar''s market is open in [open_utc, close_utc); a lunch break makes two sessions of a day. Filled by agg_refresh_calendar.';

create table public.trading_calendar_changes (
  canonical_symbol text not null references public.core_asset_registry_all (canonical_symbol) on delete cascade,
  from_utc timestamptz not null check (from_utc = date_bin('24 hours', from_utc, '2001-01-01 00:00:00+00')),
  trading_calendar text not null references public.trading_calendars (calendar),
  primary key (canonical_symbol, from_utc)
);
alter table public.trading_calendar_changes enable row level security;
revoke all on table public.trading_calendar_changes from public, anon, authenticated, service_role;
grant select on table public.trading_calendar_changes to service_role;
comment on table public.trading_calendar_changes is
  'From from_utc on the symbol follows this calendar instead of the one before. Set with agg_set_calendar.';

create function public._agg_calendar_of_asset() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  new.trading_calendar := coalesce(new.trading_calendar,
                                   case when lower(new.asset_class) in ('fx', 'forex') then 'fx_24x5' else '24x7' end);
  perform public._agg_known_calendar(new.trading_calendar, new.canonical_symbol);
  return new;
end $$;
comment on function public._agg_calendar_of_asset() is
  'Trigger: a new asset gets its calendar from its asset_class; an unknown one is refused.';
revoke execute on function public._agg_calendar_of_asset() from public, anon, authenticated, service_role;

create function public._agg_known_calendar(p_calendar text, p_symbol text) returns void
language plpgsql stable set search_path = '' as $$
begin
  if not exists (select from public.trading_calendars c where c.calendar = p_calendar) then
    raise exception 'unknown trading calendar % of %', coalesce(p_calendar, 'null'), coalesce(p_symbol, 'null') using errcode = 'AG003',
      hint = 'There are 24x7, fx_24x5 and the codes of exchanges, as XNYS, XLON, XTKS; table trading_calendars lists them all.';
  end if;
end $$;
comment on function public._agg_known_calendar(text, text) is 'Raises AG003 for a calendar that is not in trading_calendars.';
revoke execute on function public._agg_known_calendar(text, text) from public, anon, authenticated, service_role;

create trigger agg_calendar_of_asset before insert or update of trading_calendar on public.core_asset_registry_all
  for each row execute function public._agg_calendar_of_asset();

-- Which calendar a symbol follows from when to when, as far as that calendar is known; what is not in here is always open.
create view public.agg_symbol_calendars with (security_invoker = true) as
select used.canonical_symbol, used.calendar, greatest(used.from_utc, known.from_utc) as from_utc, least(used.to_utc, known.to_utc) as to_utc
  from (select a.canonical_symbol, a.trading_calendar as calendar, '-infinity'::timestamptz as from_utc,
               coalesce((select min(later.from_utc) from public.trading_calendar_changes later
                          where later.canonical_symbol = a.canonical_symbol), 'infinity') as to_utc
          from public.core_asset_registry_all a
        union all
        select c.canonical_symbol, c.trading_calendar, c.from_utc,
               coalesce((select min(later.from_utc) from public.trading_calendar_changes later
                          where later.canonical_symbol = c.canonical_symbol and later.from_utc > c.from_utc), 'infinity')
          from public.trading_calendar_changes c) used
  join public.trading_calendars known on known.calendar = used.calendar
 where greatest(used.from_utc, known.from_utc) < least(used.to_utc, known.to_utc) and known.from_utc is not null;
revoke all on table public.agg_symbol_calendars from public, anon, authenticated, service_role;
comment on view public.agg_symbol_calendars is
  'Calendar of a symbol in [from_utc, to_utc), where its sessions are known; at any other time every bar is expected.';
