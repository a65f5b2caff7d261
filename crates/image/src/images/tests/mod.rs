pub(crate) mod fixture;
mod local;
mod registry;
mod server;
mod store;
