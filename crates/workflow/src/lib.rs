//! What workflow authors write, and its deterministic replay.
