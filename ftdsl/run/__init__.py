"""Jobs carried out: environments of engines, run folders, the cache, processes, and the order of things."""
