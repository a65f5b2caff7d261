//! Use cases: run, exec, stop, sweep. Owns every running VM.
