"""JSONL events first, MLflow as a mirror of them.

Every stage appends events to `runs/<run>/<digest>/events.jsonl`. A separate process replays them into MLflow
if it is installed and reachable: training never waits for it, and no event is lost when the server is down.
"""
