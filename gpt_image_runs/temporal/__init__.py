"""What the application runs on: settings, Temporal, logs and the embedded servers. Knows nothing of pictures or money."""
