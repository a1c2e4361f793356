"""Crash rounds: the real server and agent are killed at seeded moments; every item is accounted for."""
