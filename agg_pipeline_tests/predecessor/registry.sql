-- Its assets and their tasks; that of XAUUSD was started before there was data, "at the next boundary after now".
insert into public.core_asset_registry_all (canonical_symbol, asset_class, active, test_active, ingest_class, base_timeframe)
values ('EURUSD', 'fx', true, true, 'A', '1m'), ('BTCUSD', 'crypto', true, true, 'A', '1m'),
       ('XAUUSD', 'metal', true, false, 'A', '1m'), ('DE40', 'index', true, false, 'B', '5m'),
       ('DXY', 'index', false, false, 'C', null);
select public.sync_agg_state_from_registry('prod', '2026-01-05 00:00+00');
update public.data_agg_state set last_agg_bar_ts_utc = '2026-01-25 00:00+00' where canonical_symbol = 'XAUUSD';
