//! Streams over one byte channel, for both ends of it.
