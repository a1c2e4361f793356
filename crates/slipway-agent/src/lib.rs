//! The launch agent: queue loop, life cycle of an item, recovery and drain.
