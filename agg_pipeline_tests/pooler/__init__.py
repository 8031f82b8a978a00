"""A real PgBouncer in transaction mode with a pool of one session: what is left in it reaches the next client."""
