"""Rolls raw market bars in Supabase up into higher timeframes, with Dagster deciding when."""
