-- The validator's tables of the same names, in another shape.
create table public.quality_workerhealth (id uuid primary key default gen_random_uuid(), source text not null, category text);
create table public.ops_issues (id uuid primary key default gen_random_uuid(), source text not null, title text, entity text);
insert into public.ops_issues (source, title) values ('validator', 'kept');
