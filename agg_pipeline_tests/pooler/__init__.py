"""Through a real PgBouncer in transaction mode, whose pool is one session: what is left in it reaches the next client."""
