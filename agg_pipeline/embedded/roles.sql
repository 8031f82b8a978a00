-- The roles and default privileges of a Supabase project, as far as this package meets them.
-- Run once, in one transaction, by the superuser postgres on a new database; never again on a restart, since the
-- default privileges below would open what the migrations have closed. Passwords are set by the caller.
-- Undo: remove the data folder.

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;

-- PostgREST logs in as authenticator and applies the settings of the role it switches to.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role service_role set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter database postgres set timezone to 'UTC';

-- What makes hosted projects dangerous: whatever is created in public belongs to the API roles by name. Migrations must cope.
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;

-- Dagster's storage: a database of its own, and a role that is not a superuser.
create role dagster login;
