"""Live sound: sources, sinks, the session that connects them through a stream, and its display in a terminal."""
