-- privileges: what later migrations create stays closed to the browser roles until a migration opens it by name.
-- Called by: nobody; takes effect on objects that this role creates from now on. Needs: roles anon, authenticated,
-- service_role (every Supabase project has them).
--
-- Supabase grants new tables and functions in public to anon and authenticated BY NAME, so a revoke from PUBLIC alone
-- leaves them callable. The built-in EXECUTE for PUBLIC is global and can only be revoked globally.

alter default privileges in schema public revoke all on tables from anon, authenticated;

alter default privileges in schema public revoke all on sequences from anon, authenticated;

alter default privileges in schema public revoke all on functions from anon, authenticated;

alter default privileges revoke execute on functions from public;
