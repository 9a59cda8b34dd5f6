"""The systems run on objects and texts, side by side and resumable, and compared pair by pair."""
