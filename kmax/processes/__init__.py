"""Worker processes and groups of processes that end together, whatever happens to one of them."""
