//! The typed client of the W&B API and of Slipway's additions to it.
