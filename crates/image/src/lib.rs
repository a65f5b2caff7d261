//! Container images: references, transports, registries, one disk per image.
