"""The user's own datasets: `kmax data init`."""
