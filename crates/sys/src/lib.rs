//! Safe Linux: namespaces, processes, devices. The only unsafe code.
