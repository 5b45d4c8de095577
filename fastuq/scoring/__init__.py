"""Features + head -> result: moments, intervals, decisions, figures of merit."""
