"""Spans on their way out: telemetry, back ends, what an exporter may see."""
