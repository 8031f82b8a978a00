"""What a deployment must survive, each fault made for real, and one table of what came of it."""
