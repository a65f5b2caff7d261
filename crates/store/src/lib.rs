//! Everything on disk: VM records, journal, locks, logs.
