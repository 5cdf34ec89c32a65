"""Real schedulers for tests, started and ended by them; and what other tools say of the files that ftdsl writes for them."""
