pub(crate) mod fixture;
mod local;
mod registry;
mod save;
mod server;
mod store;
