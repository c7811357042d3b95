//! The management API over real sockets, on a broker in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong fails the test")]

#[path = "management/access_matrix.rs"]
mod access_matrix;
#[path = "management/answers.rs"]
mod answers;
#[path = "management/api.rs"]
mod api;
#[path = "management/bodies.rs"]
mod bodies;
#[path = "management/definitions.rs"]
mod definitions;
#[path = "management/figures.rs"]
mod figures;
#[path = "management/floods.rs"]
mod floods;
#[path = "management/forgeries.rs"]
mod forgeries;
#[path = "management/limits.rs"]
mod limits;
#[path = "management/objects.rs"]
mod objects;
#[path = "management/openapi.rs"]
mod openapi;
#[path = "management/pages.rs"]
mod pages;
#[path = "management/protection.rs"]
mod protection;
#[path = "management/tokens.rs"]
mod tokens;
