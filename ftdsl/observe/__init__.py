"""What a run looks like from outside: metrics read as they are written, live and plain views, the table at the end."""
