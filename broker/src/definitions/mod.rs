//! Definitions: everything that was declared, as a file of RabbitMQ's form, to be taken from one broker to another.
//!
//! [`export()`] writes what there is. [`Plan`] compares a file with what there is: what is missing would be made, what
//! differs is told and left alone, what is equal costs nothing. A dry run stops there; [`Plan::apply`] does it, through the
//! operations that everybody uses. So importing a file twice changes nothing the second time.

mod apply;
mod document;
mod export;
mod import;
mod snapshot;

pub use document::Document;
pub use document::{OPERATOR_POLICY, VHOST_LIMITS};
pub use export::{export, export_vhost};
pub use import::{ImportError, Plan};
