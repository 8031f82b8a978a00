"""Aggregates raw market bars in a Supabase database into higher timeframes, scheduled by Dagster."""
