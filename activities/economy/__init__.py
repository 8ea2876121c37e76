"""Activities of economy batches: plan a round, claim and send its parts, settle their results, close."""
