"""The `report` command: a month's spend as an HTML page and a CSV file."""
