"""What people and scripts type: a file for each command, tables and progress. How things are stored is not known here."""
