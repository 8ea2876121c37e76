"""Provide structured logs (`logging`), Prometheus metrics (`metrics`) and OpenTelemetry traces (`tracing`, `otel`)."""
