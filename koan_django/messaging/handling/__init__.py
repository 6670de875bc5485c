"""What becomes of a delivery: fetched by a consumer, run in the pool, judged, settled or buried."""
