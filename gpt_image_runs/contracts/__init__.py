"""What travels between services: requests, results, and the arguments of workflows and activities, as pydantic models."""
